"""The command `fl-meta`."""
