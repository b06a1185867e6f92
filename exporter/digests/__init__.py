"""The watch after a deployment: its schedule, its state, and its digests to webhooks."""
