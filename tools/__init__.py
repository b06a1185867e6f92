"""What builds the product's files and pictures; nothing of it travels with the product."""
