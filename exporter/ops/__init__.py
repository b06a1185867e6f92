"""What a person runs beside the daemon: status, verify, fix, tune, report, rules."""
