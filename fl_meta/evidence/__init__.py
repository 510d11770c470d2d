"""What is decided: result files, statistics and verdicts."""
