"""Data sets that are generated: synthetic handwriting, and a mixture of linear rules."""
