"""What auto-release would have done on the past: which `stuck_after` to choose. Read-only.

`history` reads assignments page by page; `episodes`, `tally` and `advice` only compute.
"""
