"""Notices by webhook: one queue and one thread per webhook, so that none delays another.

Nothing here ever blocks or fails its caller. `requests` is known to `sending`
alone, which is loaded with the first notice: a daemon without webhooks does not carry it.
"""
