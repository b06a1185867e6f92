"""Handing a stuck chat back to the queue: `policy` decides, `transaction` does it."""
