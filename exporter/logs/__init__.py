"""Errors in the platform's logs: files that are followed, bodies that are received, and counts.

A line's text is judged and forgotten; only how many there were of which kind and level is kept.
"""
