"""The fast engine: many clients stacked in one computation."""
