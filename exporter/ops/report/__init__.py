"""The verdict on a deployment: each success criterion, judged from what Prometheus stored."""
