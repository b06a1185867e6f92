"""The watch after a deployment: its figures, its rhythm, and the digests that tell of it."""
