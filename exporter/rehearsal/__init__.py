"""The deployment and the way back, played on a copy: what each step takes, locks and leaves."""
