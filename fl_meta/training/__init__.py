"""Rounds of federated training, checkpoints, and baselines."""
