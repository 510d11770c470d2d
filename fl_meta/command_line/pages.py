"""`fl-meta pages`."""

from __future__ import annotations

import argparse

from fl_meta.command_line.arguments import Subcommands, add_command, add_folder
from fl_meta.command_line.errors import bad_input

PAGES = """\
Write web pages with sliders: the plane, the mix of inner gradients, different writers, one client's
mistakes, and the recorded evidence. Each is one file that needs neither a kernel nor a network;
OUTPUT/index.html lists them. Two small models are trained first, which takes half a minute.
"""


def add_commands(subcommands: Subcommands) -> None:
    """Add the subcommand of this module."""
    parser = add_command(subcommands, "pages", _pages, "pages with sliders that need no kernel", PAGES)
    add_folder(parser, "--results", "data/results", "folder of recorded results")
    add_folder(parser, "--output", "build/interactive", "folder of the pages")


def _pages(options: argparse.Namespace) -> int:
    with bad_input():
        from fl_meta.pages import build_pages

        written = build_pages(options.results, options.output)
    for path in written:
        print(path)
    return 0
