"""Handing a stuck chat back to the queue: `policy` decides, `engine` does it. The only writer."""
