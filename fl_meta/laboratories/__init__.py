"""Interactive panels for the notebooks."""
