"""`fl-meta published`, `record` and `rerun`."""

from __future__ import annotations

import argparse
from contextlib import nullcontext
from pathlib import Path

from fl_meta.command_line.arguments import Subcommands, add_command, add_folder, at_least_one
from fl_meta.command_line.errors import bad_input
from fl_meta.experiments.recorded import RECORDED_EXPERIMENTS
from fl_meta.experiments.settings import PROFILES

PUBLISHED = """\
Train and score methods on a data set for which others published scores of the same methods, and
show our scores beside theirs, with all that differs. Results already computed are reused.
"""
RECORD = """\
Compute the experiments whose results the repository keeps, one file for each seed, several seeds
at once. A file that exists is not computed again, so the same command continues after Ctrl-C, a
kill or a crash. Only seeds that were being computed then are lost.
All of them together take many hours. Real data sets are read from the folder $FL_META_DATA.

names:
"""
RERUN = """\
Compute a recorded result again, from the config and the seed in its file, and say by how much the
mean accuracies differ. Small differences count as agreement, because machines round differently.
The data must be the same, by their sha256. The file is not changed.
"""


def add_commands(subcommands: Subcommands) -> None:
    """Add the subcommands of this module."""
    summary = "our scores beside published ones"
    parser = add_command(subcommands, "published", _published, summary, PUBLISHED)
    parser.add_argument(
        "--dataset",
        required=True,
        metavar="NAME",
        help="a name that `fl-meta data list` shows, or cifar10_subset-mobilenet_v2",
    )
    parser.add_argument(
        "--method", action="append", metavar="NAME", help="may be given several times (default: all)"
    )
    parser.add_argument("--profile", choices=PROFILES, default="laptop", help="size (default: %(default)s)")
    parser.add_argument(
        "--seeds", type=at_least_one, default=1, metavar="N", help="seeds 0 to N − 1 (default: 1)"
    )
    parser.add_argument(
        "--results", type=Path, metavar="DIR", help="folder of the results (default: in your cache)"
    )

    summary = "compute the recorded results that are missing"
    names = "\n".join(f"  {name}" for name in RECORDED_EXPERIMENTS)
    parser = add_command(subcommands, "record", _record, summary, RECORD + names)
    parser.add_argument("names", nargs="*", metavar="NAME", help="which experiments (default: all)")
    parser.add_argument(
        "--workers",
        type=at_least_one,
        metavar="N",
        help="processes at once, each for one seed (default: one more than cores)",
    )
    add_folder(parser, "--results", "data/results", "folder of the results")

    summary = "compute a recorded result again and compare"
    parser = add_command(subcommands, "rerun", _rerun, summary, RERUN)
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="for example data/results/….json")


def _published(options: argparse.Namespace) -> int:
    from fl_meta.evidence import processes, results
    from fl_meta.experiments import published_scores
    from fl_meta.experiments.published_settings import BENCHMARKS

    benchmarks = BENCHMARKS[options.profile]
    with bad_input():
        if options.dataset not in benchmarks:
            raise ValueError(
                f"no published scores for {options.dataset!r}; there are some for {', '.join(benchmarks)}"
            )
        methods = benchmarks[options.dataset]
        for name in options.method or ():
            if name not in methods:
                raise ValueError(f"no method {name!r}; there are {', '.join(map(repr, methods))}")
        configs = [methods[name] for name in options.method or methods]
        # Loaded here, so that missing data are noticed now and not in another process.
        data = results.data_of(configs[0])
    computed, folder = [], options.results or results.own_folder()
    with bad_input((results.ResultError, OSError)), bad_input((processes.ProcessEndedError,), status=1):
        for config in configs:
            computed += results.load_or_run(config, range(options.seeds), folder)
    scores = published_scores.beside_published(configs[0].setting.dataset, computed)
    print(f"{data.label}: {len(data)} clients, accuracy in percent, weighted by test predictions")
    print(scores.round(1).to_string(na_rep="–"))
    print(f"differs from the published: {published_scores.protocol_differences(configs[0])}")
    return 0


def _record(options: argparse.Namespace) -> int:
    from fl_meta.evidence import processes, results

    chosen = {
        name: config
        for name, config in RECORDED_EXPERIMENTS.items()
        if name in options.names or not options.names
    }
    with bad_input():
        for name in options.names:
            if name not in RECORDED_EXPERIMENTS:
                known = ", ".join(RECORDED_EXPERIMENTS)
                raise ValueError(f"no recorded experiment {name!r}; there are {known}")
        # Loaded here, so that missing data are noticed now and not after hours.
        for config in {config.setting: config for config in chosen.values()}.values():
            results.data_of(config)
    for number, (name, config) in enumerate(chosen.items(), start=1):
        seeds = range(config.folds)
        pool = processes.processes(options.workers) if options.workers else nullcontext()
        with (
            bad_input((results.ResultError, OSError)),
            bad_input((processes.ProcessEndedError,), status=1),
            pool as executor,
        ):
            results.load_or_run(config, seeds, options.results, executor=executor)
        print(f"[{number}/{len(chosen)}] {name}: seeds 0 to {config.folds - 1} in {options.results}")
    return 0


def _rerun(options: argparse.Namespace) -> int:
    from fl_meta.evidence import results

    recorded = {}
    with bad_input():
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
