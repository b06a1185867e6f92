"""Rows to families to bytes: snapshots, events, thresholds, the exposition. Pure."""
