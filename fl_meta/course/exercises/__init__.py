"""The exercises of each lesson: which answers are right, and what to say about wrong ones."""
