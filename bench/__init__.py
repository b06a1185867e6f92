"""Measures the figures the project promises, beside the peers, in one run: `python -m bench`."""
