"""Readers for data sets that others published."""
