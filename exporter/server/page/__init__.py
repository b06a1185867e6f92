"""The live page at `/`: what is well, since when, what is wrong, what to do."""
