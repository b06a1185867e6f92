"""The chaos run: daemons and people who break everything at once, judged from history alone.

`python -m tests.chaos` is the long run; `test_chaos.py` is its short version.
"""
