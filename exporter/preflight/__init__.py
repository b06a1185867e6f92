"""Before a deployment: whether it may begin. Read-only."""
