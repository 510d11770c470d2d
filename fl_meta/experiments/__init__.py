"""What is run: each experiment with its settings."""
