"""The table of algorithms, the optimizers, and stages of training."""
