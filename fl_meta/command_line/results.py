"""`fl-meta published`, `record` and `rerun`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fl_meta.command_line.arguments import Subcommands, add_command, add_folder, at_least_one
from fl_meta.command_line.errors import bad_input
from fl_meta.command_line.executors import add_executor, executor
from fl_meta.experiments.crossed_settings import Design
from fl_meta.experiments.recorded import RECORDED_EXPERIMENTS
from fl_meta.experiments.settings import PROFILES
from fl_meta.experiments.table_one_settings import CrossedTableOne

if TYPE_CHECKING:
    from fl_meta.evidence.result_types import CrossedResult

PUBLISHED = """\
Train and score methods on a data set for which others published scores of the same methods, and
show our scores beside theirs, with all that differs. Results already computed are reused.
"""
RECORD = """\
Compute the experiments whose results the repository keeps, one file for each seed, several seeds
at once. A file that exists is not computed again, so the same command continues after Ctrl-C, a
kill or a crash. Only seeds that were being computed then are lost.
All of them together take days. Real data sets are read from the folder $FL_META_DATA.

An experiment whose name begins with crossed- is tuned first. Then replicates of all its folds are
computed, at least 4 and at most 10, until every test has an interval that is narrow enough. Of one
that begins with table_one-, 4 replicates of all folds are computed.

names:
"""
RERUN = """\
Compute a recorded result again, from the config and the seed in its file, and say by how much the
mean accuracies differ. Small differences count as agreement, because machines round differently.
Of a crossed-….json they are also compared with the spread between the replicates that lie beside
it. Of a tuning-….json it is said whether the same options are chosen.
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
    add_executor(parser)
    parser.add_argument(
        "--replicates",
        type=at_least_one,
        metavar="N",
        help="of crossed-… and table_one-…: compute so many (default: see above)",
    )
    add_folder(parser, "--results", "data/results", "folder of the results")

    summary = "compute a recorded result again and compare"
    parser = add_command(subcommands, "rerun", _rerun, summary, RERUN)
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="for example data/results/….json")


def _published(options: argparse.Namespace) -> int:
    from fl_meta.evidence import processes, result_files, results
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
    with bad_input((result_files.ResultError, OSError)), bad_input((processes.ProcessEndedError,), status=1):
        for config in configs:
            computed += results.load_or_run(config, range(options.seeds), folder)
    scores = published_scores.beside_published(configs[0].setting.dataset, computed)
    print(f"{data.label}: {len(data)} clients, accuracy in percent, weighted by test predictions")
    print(scores.round(1).to_string(na_rep="–"))
    print(f"differs from the published: {published_scores.protocol_differences(configs[0])}")
    return 0


def _record(options: argparse.Namespace) -> int:
    from fl_meta.evidence import crossed_recording, processes, result_files, results

    errors = (result_files.ResultError, ModuleNotFoundError, OSError)
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
        with (
            bad_input(errors),
            bad_input((processes.ProcessEndedError,), status=1),
            executor(options) as pool,
        ):
            if isinstance(config, Design):
                cells = crossed_recording.record_design(
                    config, options.results, replicates=options.replicates, executor=pool
                )
                done = _how_precise(cells)
            elif isinstance(config, CrossedTableOne):
                tables = crossed_recording.record_table_one(
                    config, options.results, replicates=options.replicates, executor=pool
                )
                done = _how_many(len(tables), config.folds)
            else:
                results.load_or_run(config, range(config.folds), options.results, executor=pool)
                done = f"seeds 0 to {config.folds - 1} in {options.results}"
        print(f"[{number}/{len(chosen)}] {name}: {done}", flush=True)
    return 0


def _how_precise(cells: Sequence[CrossedResult]) -> str:
    """How many replicates of a design there are, and whether they are enough."""
    from fl_meta.evidence import crossed_rules, crossed_statistics

    folds = cells[0].config.folds
    replicates, done = len(cells) // folds, _how_many(len(cells), folds)
    if replicates < crossed_statistics.LEAST_REPLICATES:
        return f"{done}; there are no intervals with fewer than {crossed_statistics.LEAST_REPLICATES}"
    if wide := crossed_rules.too_wide(cells):
        return f"{done}; NOT narrow enough are the intervals of {', '.join(wide)}"
    return f"{done}; every interval is narrow enough"


def _how_many(results: int, folds: int) -> str:
    replicates = results // folds
    return f"{replicates} replicate{'s' if replicates > 1 else ''} of {folds} folds"


def _rerun(options: argparse.Namespace) -> int:
    from fl_meta.evidence import agreement, result_files, results

    recorded = {}
    with bad_input():
        for path in options.files:
            result = result_files.read_result(path)
            recorded[path] = result, agreement.recorded_replicates(path, result)
            data = results.data_of(result.config)
            if data.fingerprint != result.data.sha256:
                raise ValueError(
                    f"{path} was computed on other data: sha256 {result.data.sha256}, but "
                    f"{data.name!r} here has {data.fingerprint}"
                )
    status = 0
    for path, (result, replicates) in recorded.items():
        again = results.compute(result.config, result.seed)
        found = agreement.agreement(result, again, replicates)
        print(f"{path}: {'agrees' if found.agrees else 'DOES NOT AGREE'}, {found.text}", flush=True)
        if found.table:
            print(f"{found.table}\n", flush=True)
        status = status if found.agrees else 1
    return status
