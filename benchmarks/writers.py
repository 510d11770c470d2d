"""Time how fast one core draws synthetic handwriting, and what very many writers cost in time and memory.

`python benchmarks/writers.py [writers] [writers on demand]`
"""

from __future__ import annotations

import os
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

REPEATS = 5


def timed(call: Callable[[], object]) -> tuple[list[float], list[float]]:
    """Wall-clock and process seconds of each repeat; other processes disturb the latter less."""
    clock, process = [], []
    for _ in range(REPEATS):
        starts = time.perf_counter(), time.process_time()
        call()
        clock.append(time.perf_counter() - starts[0])
        process.append(time.process_time() - starts[1])
    return clock, process


def peak_megabytes() -> float:
    """Peak resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3  # in kB on Linux


def on_demand(writers: int) -> None:
    """Load writers on demand, read some of them and train one round on 1,000; print time and memory."""
    import fl_meta

    print(f"{writers:,} writers on demand\n")
    print(f"{'':44}{'clock s':>10}{'images/s':>12}{'peak MB':>10}")

    def report(name: str, begin: float, images: int | None = None) -> None:
        seconds = time.perf_counter() - begin
        speed = f"{images / seconds:,.0f}" if images else "–"
        print(f"{name:44}{seconds:10.3f}{speed:>12}{peak_megabytes():10,.0f}")

    begin = time.perf_counter()
    data = fl_meta.load_dataset("writers", num_writers=writers, on_demand=True)
    report("loaded", begin)
    begin = time.perf_counter()
    repr(data)
    report("printed", begin)
    some = min(1000, writers)
    begin = time.perf_counter()
    images = sum(len(data[client_id].train_x) for client_id in data.client_ids[-some:])
    images += int(data.test_counts[-some:].sum())
    report(f"the images of {some:,} writers", begin, images)
    stage = fl_meta.Stage(fl_meta.fedavg(epochs=1), rounds=1, clients_per_round=some)
    begin = time.perf_counter()
    fl_meta.train(fl_meta.models.mlp(data), data, [stage], progress=False)
    report(f"a round of {some:,} writers, FedAvg(E=1), mlp", begin)
    print()


def main() -> None:
    # Set before NumPy is loaded, so that its matrix products stay on one core.
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"):
        os.environ[variable] = "1"
    from fl_meta.data.synthetic import strokes
    from fl_meta.data.synthetic.writers import load_writers

    writers, many = (*map(int, sys.argv[1:3]), *(200, 100_000)[len(sys.argv[1:3]) :])
    begin = time.perf_counter()
    strokes.glyphs()
    print(f"reading the fonts, once per process: {time.perf_counter() - begin:.2f} s\n")
    on_demand(many)  # first, because peak memory includes everything before
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
