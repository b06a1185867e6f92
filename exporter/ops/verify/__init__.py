"""The deployment checklist, done by the machine: is the fix there, and can the watch see it?"""
