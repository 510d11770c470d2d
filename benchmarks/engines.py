"""Time rounds of FedAvg with our engines, a plain PyTorch loop, FedJAX and Flower, on the same batches.

Every system runs in its own process, and they take turns, one round each (or several short ones), so that a
ratio compares what the machine delivered at nearly the same time. Linux only: memory is read from /proc.
`make bench` also installs the other systems. docs/speed.md has the results.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator
from systems.matmul import SIZE
from systems.ours import Rounds, dataset, model_named
from systems.worker import Job

from fl_meta.data.batches import batch_plan
from fl_meta.engines.task import ENGINES
from fl_meta.models.parameters import Params, add, relative_error
from fl_meta.plots.style import PALETTE
from fl_meta.support.guard import MARK
from fl_meta.support.run_folder import run_folder

HERE = Path(__file__).resolve().parent
PEERS = HERE.parent / "build" / "peers" / "bin" / "python"
MODELS = ("logistic", "mlp", "emnist_cnn", "char_mlp", "char_lstm")
SYSTEMS = ("stacked", "loop", "plain", "fedjax", "flower")
MODULES = {name: name for name in (*SYSTEMS, "matmul")} | {"stacked": "ours", "loop": "ours"}
PEER_PACKAGES = {"fedjax": "fedjax", "flower": "ray"}  # without which the system cannot run
CLIENTS, EXAMPLES, EPOCHS, BATCH_SIZE = 20, 100, 2, 20
TOLERANCE = 1e-3  # of a system's change of the parameters in float32, relative to the loop engine's
TURN = 0.5  # seconds: the first short round after a pause is slower, so that one alone would mislead
PATIENCE = 60.0  # seconds for a peer's first round with 1,000 clients

# No telemetry, and JAX stays on the processor like the others.
QUIET = {"FLWR_TELEMETRY_ENABLED": "0", "RAY_USAGE_STATS_ENABLED": "0", "JAX_PLATFORMS": "cpu"}


@dataclass(frozen=True)
class Row:
    """The measurements of one system on one model.

    Attributes:
        model: The model's name.
        system: The system's name.
        algorithm: FedAvg; for our own engines also FOMAML(5) or MAML(5).
        clients: Number of clients per round.
        client_updates_per_second: `clients` divided by `round_seconds`.
        round_seconds: Median over the turns.
        first_round_seconds: Time from the start of the process to the end of its first round.
        peak_memory_bytes: Peak resident memory, summed over the system's processes.
        ratio_to_plain: Client updates per second relative to the plain loop; None if that did not run.
        share_of_matmul_rate: Useful operations per second relative to a large matrix product; None for
            algorithms other than FedAvg.
        relative_error: Error of the parameters' change in the first round, relative to the loop engine.
        threads: Number of threads.
    """

    model: str
    system: str
    algorithm: str
    clients: int
    client_updates_per_second: float
    round_seconds: float
    first_round_seconds: float
    peak_memory_bytes: int
    ratio_to_plain: float | None
    share_of_matmul_rate: float | None
    relative_error: float
    threads: str


def flops_per_example(model: str, classes: int) -> int:
    """Number of operations needed to train on one example.

    Only matrix products and convolutions count, with 2 operations per multiply-add. A layer needs three
    products: forward, for the weights' gradient, and for the input's gradient. A layer that reads the data
    itself does not need the last one. Activations, biases, pooling, embeddings and SGD are not counted.
    """
    # Multiply-adds of one forward pass, for the layer that reads the data and for all others.
    reads_data, others = {
        "logistic": (784 * classes, 0),
        "mlp": (784 * 200, 200 * 200 + 200 * classes),
        "emnist_cnn": (26**2 * 9 * 32, 24**2 * 9 * 32 * 64 + 9216 * 128 + 128 * classes),
        # At each of 80 positions; the embedding's gradient needs that of the first layer's input.
        "char_mlp": (0, 80 * (8 * 16 * 128 + 128 * classes)),
        "char_lstm": (0, 80 * ((8 + 256) * 4 * 256 + (256 + 256) * 4 * 256 + 256 * classes)),
    }[model]
    return 2 * (2 * reads_data + 3 * others)


def processes(group: int) -> Iterator[Path]:
    """The /proc folders of a process group: a worker and every process it started."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if os.getpgid(int(folder.name)) == group:
                yield folder
        except ProcessLookupError:
            continue


class Worker:
    """A system's process, suspended while others have their turn so that its threads do not disturb them.

    It belongs to the run whose folder it is given: suspended, it would not notice that its parent is gone.
    """

    def __init__(self, module: str, name: str, folder: Path) -> None:
        python = str(PEERS) if module in PEER_PACKAGES else sys.executable
        self.log = folder / f"{name}.log"
        self.begin = time.perf_counter()
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [python, "-m", f"systems.{module}", str(folder), name],
                cwd=HERE,
                env=os.environ | QUIET | {"FLWR_HOME": str(folder), MARK: str(folder)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                bufsize=0,
                start_new_session=True,
            )

    def first_round(self, patience: float | None = None) -> float:
        """Seconds from the start of the process to the end of round 0.

        Raises:
            TimeoutError: if that is more than `patience`.
        """
        self._send(0)
        self._receive(patience)
        seconds = time.perf_counter() - self.begin
        self.threads = self._receive()
        os.killpg(self.process.pid, signal.SIGSTOP)
        return seconds

    def turn(self, number: int) -> float:
        """Median seconds per round in one turn, which has at least one round."""
        os.killpg(self.process.pid, signal.SIGCONT)
        seconds: list[float] = []
        while sum(seconds) < TURN:
            self._send(number)
            seconds.append(float(self._receive()))
        os.killpg(self.process.pid, signal.SIGSTOP)
        return statistics.median(seconds)

    def _send(self, number: int) -> None:
        assert self.process.stdin
        self.process.stdin.write(f"{number}\n".encode())

    def _receive(self, patience: float | None = None) -> str:
        assert self.process.stdout
        if not select.select([self.process.stdout], [], [], patience)[0]:
            raise TimeoutError(f"no answer in {patience:.0f} s")
        line = self.process.stdout.readline().decode().strip()
        if not line:
            end = "\n".join(self.log.read_text().splitlines()[-15:])
            raise SystemExit(f"{self.log.stem} ended with code {self.process.wait()}:\n{end}")
        return line

    def peak_memory(self) -> int:
        """Peak resident bytes; a page shared by several processes is counted in each.

        Read from the processes' high-water marks: `ru_maxrss` starts at the size of the parent process.
        """
        total = 0
        for folder in processes(self.process.pid):
            fields = dict(line.split(":", 1) for line in (folder / "status").read_text().splitlines())
            total += int(fields["VmHWM"].split()[0]) * 1024
        return total

    def close(self) -> None:
        """End the process and every process it started."""
        for folder in list(processes(self.process.pid)):
            os.kill(int(folder.name), signal.SIGKILL)
        self.process.communicate()


@contextmanager
def job_folder(model: str, clients: int, rounds: int) -> Iterator[Path]:
    """A temporary folder with random data, the planned batches and the initial parameters."""
    random = np.random.default_rng(0)
    text = model.startswith("char")
    job = Job(model, 100 if text else 62, epochs=EPOCHS, batch_size=BATCH_SIZE, learning_rate=0.02, seed=0)
    # Some labels are frequent, like letters: with equal ones a round changes the parameters by so little that
    # float32 rounds much of it away, in averages of 1,000 models above all.
    y = (
        job.num_classes * random.random((clients, EXAMPLES, 80) if text else (clients, EXAMPLES)) ** 4
    ).astype(int)
    if text:
        x: Any = random.integers(job.num_classes, size=y.shape, dtype=np.uint8)
    else:
        x = random.random((clients, EXAMPLES, 28, 28), dtype=np.float32)
    with run_folder() as folder:
        np.save(folder / "x.npy", x)
        np.save(folder / "y.npy", y)
        data = dataset(folder, job.num_classes)
        plans = [
            batch_plan(job.seed, number, client, EXAMPLES, batch_size=BATCH_SIZE, epochs=EPOCHS).indices
            for number in range(rounds + 1)
            for client in data.client_ids
        ]
        np.save(folder / "plan.npy", np.reshape(plans, (rounds + 1, clients, -1, BATCH_SIZE)))
        start = model_named(model, data).init(0)
        np.savez(folder / "initial.npz", **{name: tensor.numpy() for name, tensor in start.items()})
        job.write(folder)
        yield folder


def load(path: Path) -> Params:
    """Parameters saved by a worker or by `job_folder`."""
    with np.load(path) as file:
        return {name: torch.from_numpy(values) for name, values in file.items()}


def compare(model: str, clients: int, rounds: int, names: Sequence[str]) -> list[Row]:
    """Let systems take turns on one model. A name is a system, optionally with an algorithm."""
    workers: dict[str, Worker] = {}
    first: dict[str, float] = {}
    with job_folder(model, clients, rounds) as folder:
        try:
            for name in ("matmul", *names):
                workers[name] = Worker(MODULES[name.split()[0]], name, folder)
                try:
                    first[name] = workers[name].first_round(PATIENCE if clients > 100 else None)
                except TimeoutError as error:
                    print(f"{name} is left out with {clients:,} clients: {error}")
                    workers.pop(name).close()
            turns = [{name: worker.turn(r) for name, worker in workers.items()} for r in range(1, rounds + 1)]
            memory = {name: worker.peak_memory() for name, worker in workers.items()}
        finally:
            for worker in workers.values():
                worker.close()
        seconds = {name: statistics.median(turn[name] for turn in turns) for name in workers}
        matmul_rate = 2 * SIZE**3 / seconds.pop("matmul")
        work = clients * EXAMPLES * EPOCHS * flops_per_example(model, Job.read(folder).num_classes)

        @cache
        def change_by_loop(algorithm: str) -> Params:
            return add(Rounds(folder, "loop", algorithm)(start, 0), start, -1.0)

        start, rows = load(folder / "initial.npz"), []
        for name in seconds:
            system, algorithm = (*name.split(), "fedavg")[:2]
            change = add(load(folder / f"{name}.npz"), start, -1.0)
            rows.append(
                Row(
                    model=model,
                    system=system,
                    algorithm=algorithm,
                    clients=clients,
                    client_updates_per_second=clients / seconds[name],
                    round_seconds=seconds[name],
                    first_round_seconds=first[name],
                    peak_memory_bytes=memory[name],
                    ratio_to_plain=seconds["plain"] / seconds[name] if "plain" in seconds else None,
                    share_of_matmul_rate=work / seconds[name] / matmul_rate
                    if algorithm == "fedavg"
                    else None,
                    relative_error=relative_error(change, change_by_loop(algorithm)),
                    threads=workers[name].threads,
                )
            )
    print(f"\n{model}, {clients:,} clients; a large matrix product: {matmul_rate / 1e9:.0f} Gflop/s")
    print(
        f"{'':16}{'clients/s':>11}{'× plain':>9}{'of matmul':>11}{'round s':>10}{'first s':>9}"
        f"{'peak MB':>9}{'error':>10}  threads"
    )
    for row in rows:
        name = row.system if row.algorithm == "fedavg" else f"{row.system} {row.algorithm}"
        ratio = "–" if row.ratio_to_plain is None else f"{row.ratio_to_plain:.2f}"
        share = "–" if row.share_of_matmul_rate is None else f"{row.share_of_matmul_rate:.1%}"
        print(
            f"{name:16}{row.client_updates_per_second:11,.1f}{ratio:>9}{share:>11}{row.round_seconds:10.4f}"
            f"{row.first_round_seconds:9.1f}{row.peak_memory_bytes / 1e6:9,.0f}{row.relative_error:10.0e}"
            f"  {row.threads}",
            flush=True,
        )
    return rows


def print_growth(rows: Sequence[Row], system: str) -> None:
    """Cost per client in larger rounds, relative to the smallest round."""
    costs = {row.clients: row.round_seconds / row.clients for row in rows if row.system == system}
    base = costs[min(costs)]
    print(
        f"{system}: a client costs {base * 1e3:.2f} ms in a round of {min(costs)}; relative to that "
        + ", ".join(f"{cost / base:.2f} of {clients:,}" for clients, cost in costs.items() if cost != base)
    )


def print_start_up() -> None:
    """Time of `import fl_meta` and of `import torch`, in fresh processes that take turns."""
    seconds: dict[str, list[float]] = {"torch": [], "fl_meta": []}
    for _ in range(6):
        for package, times in seconds.items():
            begin = time.perf_counter()
            subprocess.run([sys.executable, "-c", f"import {package}"], check=True)
            times.append(time.perf_counter() - begin)
    # The first process of each kind reads from the disk.
    ours, theirs = (statistics.median(seconds[package][1:]) for package in ("fl_meta", "torch"))
    print(f"\nimport fl_meta {ours:.2f} s, import torch {theirs:.2f} s: {ours / theirs:.2f} times")


def plot(rows: Sequence[Row], path: Path) -> None:
    """Plot client updates per second against clients per round, one line per system."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    for system, color, marker in zip(SYSTEMS, PALETTE, "osD^v", strict=False):
        points = [(row.clients, row.client_updates_per_second) for row in rows if row.system == system]
        if points:
            axes.plot(*zip(*points, strict=True), color=color, marker=marker, label=system)
    axes.set(xscale="log", yscale="log", xlabel="clients in a round", ylabel="client updates per second")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter("{x:,.0f}")
        axis.set_minor_locator(NullLocator())
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title(f"A round of FedAvg: {rows[0].model}, {EPOCHS} epochs of {EXAMPLES} examples")
    # Fastest first, as in the figure.
    lines = sorted(axes.lines, key=lambda line: -float(np.asarray(line.get_ydata())[-1]))
    figure.legend(handles=lines, loc="outside right upper", frameon=False)
    figure.savefig(path, dpi=150)


def available(names: Sequence[str]) -> list[str]:
    """The systems that can run here; prints which cannot, and why."""
    found = []
    for name in names:
        look = f"import importlib.util as u; assert u.find_spec({PEER_PACKAGES.get(name)!r})"
        if name not in PEER_PACKAGES or (
            PEERS.exists()
            and not subprocess.run([str(PEERS), "-c", look], capture_output=True, check=False).returncode
        ):
            found.append(name)
        else:
            print(f"{name} is left out: it is not in build/peers; `make bench` installs it")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--models", nargs="+", choices=MODELS, default=MODELS, metavar="MODEL", help=str(MODELS)
    )
    parser.add_argument(
        "--systems", nargs="+", choices=SYSTEMS, default=SYSTEMS, metavar="SYSTEM", help=str(SYSTEMS)
    )
    parser.add_argument(
        "--rounds", type=int, default=5, help="number of measured turns, after one warm-up round"
    )
    parser.add_argument("--json", type=Path, help="write the rows of all tables to this file")
    parser.add_argument(
        "--plot", type=Path, help="plot speed against clients per round to this file (needs mlp)"
    )
    arguments = parser.parse_args()
    if arguments.plot and "mlp" not in arguments.models:
        parser.error("--plot draws the mlp; add it to --models")

    systems = available(arguments.systems)
    print(
        f"Random data, {EXAMPLES} examples for each client, batches of {BATCH_SIZE}, {EPOCHS} local epochs, "
        f"float32; medians of {arguments.rounds} turns"
    )
    rows = [row for model in arguments.models for row in compare(model, CLIENTS, arguments.rounds, systems)]
    if "mlp" in arguments.models:
        growth = []
        for clients in (10, 100, 1000):
            # Rounds of 1,000 clients are long.
            rounds = min(arguments.rounds, 3) if clients == 1000 else arguments.rounds
            growth += compare("mlp", clients, rounds, systems)
        ours = [name for name in systems if name in ENGINES]
        print()
        for name in ours:
            print_growth(growth, name)
        rows += growth
        if arguments.plot:
            plot(growth, arguments.plot)
        if ours:
            first_order, second_order = compare(
                "mlp", CLIENTS, arguments.rounds, [f"{ours[0]} fomaml", f"{ours[0]} maml"]
            )
            ratio = second_order.round_seconds / first_order.round_seconds
            print(f"MAML(5) takes {ratio:.2f} times as long as FOMAML(5)")
            rows += [first_order, second_order]
    print_start_up()
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
    wrong = [row for row in rows if not row.relative_error <= TOLERANCE]
    for row in wrong:
        print(
            f"{row.system}, {row.algorithm} on {row.model}, {row.clients:,} clients: its parameters' change "
            f"differs from the loop engine's by {row.relative_error:.1e}, more than {TOLERANCE:.0e}",
            file=sys.stderr,
        )
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
