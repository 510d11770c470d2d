"""`fl-meta record`, `rerun` and `bench`: recorded results."""

from __future__ import annotations

import argparse
from contextlib import nullcontext

from fl_meta.command_line.errors import _bad_input

BENCH = """\
Train and score methods on a row of the benchmarks in which this method is scored by others, and show
the numbers beside the published ones, with all that differs. What is computed already is kept.
"""
RECORD = """\
Compute the experiments whose results the repository keeps, one file for each seed, several seeds
at once. A file that is there is not computed again, so the same command goes on after Ctrl-C.
All of them take many hours. Real data sets are read from the folder $FL_META_DATA.

names:
"""
RERUN = """\
Compute a recorded result again, from the config and the seed in its file, and say by how much the
mean accuracies differ. A small difference agrees: another machine rounds otherwise. The data must
be the same, by its sha256. The file stays as it is.
"""


def _bench(options: argparse.Namespace) -> int:
    from fl_meta.evidence import results
    from fl_meta.experiments import published_scores as benchmark
    from fl_meta.experiments.published_settings import BENCHMARKS

    rows = BENCHMARKS[options.profile]
    with _bad_input():
        if options.dataset not in rows:
            raise ValueError(f"no benchmark row {options.dataset!r}; there are {', '.join(rows)}")
        row = rows[options.dataset]
        for name in options.method or ():
            if name not in row:
                raise ValueError(f"no method {name!r}; there are {', '.join(map(repr, row))}")
        configs = [row[name] for name in options.method or row]
        # Data that are missing are noticed now, not in another process.
        data = results.data_of(configs[0])
    found, folder = [], options.results or results.own_folder()
    with _bad_input((results.ResultError, OSError)):
        for config in configs:
            found += results.load_or_run(config, range(options.seeds), folder)
    print(f"{data.label}: {len(data)} clients, accuracy in percent, weighted by test predictions")
    print(benchmark.beside_published(configs[0].setting.dataset, found).round(1).to_string(na_rep="–"))
    print(f"differs from the published: {benchmark.protocol_differences(configs[0])}")
    return 0


def _record(options: argparse.Namespace) -> int:
    from fl_meta.evidence import processes, results
    from fl_meta.experiments.recorded import RECORDED_EXPERIMENTS

    known = RECORDED_EXPERIMENTS
    chosen = {name: config for name, config in known.items() if name in options.names or not options.names}
    with _bad_input():
        for name in options.names:
            if name not in known:
                raise ValueError(f"no recorded experiment {name!r}; there are {', '.join(known)}")
        # A data set that is missing is noticed now, not after hours.
        for config in {config.setting: config for config in chosen.values()}.values():
            results.data_of(config)
    for number, (name, config) in enumerate(chosen.items(), start=1):
        seeds = range(config.folds)
        pool = processes.processes(options.workers) if options.workers else nullcontext()
        with _bad_input((results.ResultError, OSError)), pool as executor:
            results.load_or_run(config, seeds, options.results, executor=executor)
        print(f"[{number}/{len(chosen)}] {name}: seeds 0 to {config.folds - 1} in {options.results}")
    return 0


def _rerun(options: argparse.Namespace) -> int:
    from fl_meta.evidence import results

    recorded = {}
    with _bad_input():
        for path in options.files:
            recorded[path] = result = results.read_result(path)
            data = results.data_of(result.config)
            if data.fingerprint != result.data.sha256:
                raise ValueError(
                    f"{path} was computed on other data: sha256 {result.data.sha256}, but "
                    f"{data.name!r} here has {data.fingerprint}"
                )
    status = 0
    for path, result in recorded.items():
        again = results.compute(result.config, result.seed)
        difference = results.largest_difference(result, again)
        agrees = difference <= results.AGREEMENT
        print(
            f"{path}: {'agrees' if agrees else 'DOES NOT AGREE'}, the largest difference of a mean accuracy "
            f"is {100 * difference:.2f} points ({100 * results.AGREEMENT:g} are allowed)",
            flush=True,
        )
        status = status if agrees else 1
    return status
