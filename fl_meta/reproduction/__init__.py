"""Notebooks: run, built from their sources, and reported."""
