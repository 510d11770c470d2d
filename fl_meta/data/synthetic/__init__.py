"""Data sets that are drawn here."""
