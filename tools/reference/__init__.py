"""What repeats the code, the catalogue or the rules in other files: `python -m tools.reference`."""
