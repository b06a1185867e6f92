"""The references in docs/ that are generated from the code."""
