"""The systems measured by `benchmarks/engines.py`, each run as `python -m systems.NAME JOB NAME`."""
