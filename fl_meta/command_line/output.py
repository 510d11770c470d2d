"""Printing wherever the output goes; characters that it cannot show are replaced by similar ones."""

from __future__ import annotations

import codecs
import io
import json
import os
import select
import sys
import unicodedata
from typing import Any, TextIO

from fl_meta.command_line.errors import explained

# One character for one where columns must stay in line.
_SIMILAR = {
    **{
        "✔": "+",
        "✓": "+",
        "✘": "x",
        "✖": "x",
        "✗": "x",
        "∅": "o",
        "↗": "/",
        "·": "-",
        "─": "-",
        "−": "-",
        "–": "-",
        "—": "-",
        "×": "x",
        "█": "#",
    },
    **{"…": "...", "→": "->", "←": "<-", "±": "+/-", "≤": "<=", "≥": ">=", "‖": "||", "√": "sqrt "},
    **{"θ": "theta", "β": "beta", "μ": "mu", "π": "pi", "∇": "grad ", "Σ": "sum ", "∏": "product "},
    **{"‘": "'", "’": "'", "“": '"', "”": '"', "⁄": "/"},
}


def prepare_output() -> None:
    """Let standard output and standard error take any text, and be there even if they are closed."""
    codecs.register_error("fl_meta.similar", _replace)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: PTH123, SIM115
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="fl_meta.similar")


def _replace(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(_similar, error.object[error.start : error.end])), error.end


def _similar(character: str) -> str:
    if character in _SIMILAR:
        return _SIMILAR[character]
    if "\udc80" <= character <= "\udcff":  # a byte of a file's name that is not text
        return f"\\x{ord(character) - 0xDC00:02x}"
    # A letter without its accents.
    parts = unicodedata.normalize("NFKD", character)
    letters = "".join(_SIMILAR.get(part, part) for part in parts if not unicodedata.combining(part))
    return letters if letters.isascii() else character.encode("ascii", "backslashreplace").decode()


def print_json(value: Any) -> None:
    """Print a value as JSON: with escapes, which mean the same, if the output cannot show its characters."""
    text = json.dumps(value, indent=1, ensure_ascii=False)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        text = json.dumps(value, indent=1)
    print(text)


def report_failure(error: OSError) -> int:
    """Say why nothing more can be printed, or what else the system refused; the exit status."""
    gone = isinstance(error, BrokenPipeError) and any(map(_reader_is_gone, (sys.stdout, sys.stderr)))
    if not gone:
        # Python does not name a file that was open already, and only this one is left open.
        place = "standard output: " if error.errno and error.filename is None else ""
        print(f"fl-meta: error: {place}{explained(error)}", file=sys.stderr)
    try:
        sys.stdout.flush()
    except OSError:
        # Python would try again when it exits, and complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0 if gone else 2


def _reader_is_gone(stream: TextIO) -> bool:
    """Whether nobody reads any more what is printed, as after `| head`."""
    poll = select.poll()
    poll.register(stream.fileno(), select.POLLOUT)
    return any(event & select.POLLERR for _, event in poll.poll(0))
