"""The systems that `benchmarks/engines.py` measures, each run as `python -m systems.NAME JOB NAME`."""
