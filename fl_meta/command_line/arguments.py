"""How the subcommands declare themselves and their arguments."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

Subcommands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
Run: TypeAlias = Callable[[argparse.Namespace], int]


def add_command(
    subcommands: Subcommands,
    name: str,
    run: Run | None,
    summary: str,
    description: str,
    passes_on_arguments: bool = False,
) -> argparse.ArgumentParser:
    """Add a subcommand and return its parser; `run` is None for a group of subcommands.

    With `passes_on_arguments`, arguments it does not know are for another program, and not an error: `run`
    finds them in `options.unknown_arguments`.
    """
    parser = subcommands.add_parser(
        name,
        help=summary,
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.set_defaults(run=run, passes_on_arguments=passes_on_arguments)
    return parser


def add_folder(parser: argparse.ArgumentParser, option: str, default: str, meaning: str) -> None:
    """Add an option that names a folder."""
    help_line = f"{meaning} (default: {default})"
    parser.add_argument(option, type=Path, default=Path(default), metavar="DIR", help=help_line)


def at_least_one(text: str) -> int:
    """The whole number in an argument."""
    if not (text.isdecimal() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)
