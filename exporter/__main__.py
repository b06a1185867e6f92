"""`python -m exporter` is `chatqueue`."""

from exporter.cli import main

main()
