"""How fast synthetic handwriting is drawn, on one core: `python benchmarks/writers.py [writers]`."""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

REPEATS = 5


def timed(call: Callable[[], object]) -> tuple[list[float], list[float]]:
    """Seconds of each repeat: on the clock, and of this process alone, which neighbours disturb less."""
    clock, process = [], []
    for _ in range(REPEATS):
        starts = time.perf_counter(), time.process_time()
        call()
        clock.append(time.perf_counter() - starts[0])
        process.append(time.process_time() - starts[1])
    return clock, process


def main() -> None:
    # Before numpy is loaded: its matrix products must not use other cores.
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"):
        os.environ[variable] = "1"
    from fl_meta.data import strokes
    from fl_meta.data.writers import load_writers

    writers = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    begin = time.perf_counter()
    strokes.glyphs()
    print(f"reading the fonts, once per process: {time.perf_counter() - begin:.2f} s")
    with tempfile.TemporaryDirectory() as folder:
        images = len(load_writers(writers, cache=folder).x)
        size = sum(file.stat().st_size for file in Path(folder).iterdir()) / 1e6
        rows = {
            "drawn, no cache": timed(lambda: load_writers(writers, cache=False)),
            f"read from the cache ({size:.0f} MB)": timed(lambda: load_writers(writers, cache=folder)),
        }
    print(f"load_writers({writers}): {images:,} images of 28×28, one thread, median of {REPEATS}\n")
    print(f"{'':30}{'clock s':>10}{'images/s':>12}{'processor s':>14}{'images/s':>12}")
    for name, (clock, process) in rows.items():
        wall, own = statistics.median(clock), statistics.median(process)
        print(f"{name:30}{wall:10.3f}{images / wall:12,.0f}{own:14.3f}{images / own:12,.0f}")


if __name__ == "__main__":
    main()
