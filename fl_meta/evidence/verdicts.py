"""Verdicts: what a run says about each claim of the paper, and how a notebook shows them.

A notebook shows a `VerdictTable`; besides text and HTML its output carries the verdicts themselves. A report
reads them back from the outputs of the notebooks that it has just run, so there is no file of verdicts that
could be shown in place of computed ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from html import escape
from typing import Any

import numpy as np

from fl_meta.experiments.settings import PROFILES, RECORDED

"""Sizes of a run: a check that it works, a machine without a GPU, the paper's own settings."""

"""The profile of a verdict on results that the repository keeps; it was not computed in this run."""

LEVEL = 0.05  # of corrected p values
MARKS = {
    "reproduced": "✔",
    "direction only": "↗",
    "not reproduced": "✘",
    "undecided": "?",
    "not run": "–",
}
"""Every verdict there is, each with a sign, so that none is told by its colour alone."""

MIME = "application/vnd.fl-meta.verdicts+json"

# Okabe and Ito's palette, told apart by colour-blind readers: (text, background).
_COLOURS = {
    "reproduced": ("#004d75", "#d6ebf7"),
    "direction only": ("#6b4e00", "#fbeccb"),
    "not reproduced": ("#7d3100", "#f9ddcd"),
    "undecided": ("#444444", "#ececec"),
    "not run": ("#666666", "#f7f7f7"),
}


@dataclass(frozen=True)
class Verdict:
    """What a run says about one claim on one data set.

    Attributes:
        claim: short name of the claim, the same on every data set.
        statement: the claim in one sentence.
        dataset: label of the data set; a synthetic one says so in its label.
        verdict: one of `MARKS`.
        effect: the measured effect; NaN where nothing was measured.
        interval: lower and upper end of the effect's interval; NaN where there is none.
        unit: unit of effect and interval.
        profile: one of `PROFILES`, or `RECORDED`.
        notebook: name of the notebook that shows it; the report fills it in.
    """

    claim: str
    statement: str
    dataset: str
    verdict: str
    effect: float
    interval: tuple[float, float]
    unit: str
    profile: str
    notebook: str = ""

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            ValueError: for an unknown verdict or profile, or an interval whose ends are swapped.
        """
        for name in ("claim", "dataset"):
            if not getattr(self, name):
                raise ValueError(f"a verdict needs a {name}; it is empty")
        if self.verdict not in MARKS:
            raise ValueError(f"verdict {self.verdict!r} is not one of {', '.join(MARKS)}")
        if self.profile not in (*PROFILES, RECORDED):
            raise ValueError(f"profile {self.profile!r} is not one of {', '.join((*PROFILES, RECORDED))}")
        low, high = (float(end) for end in self.interval)
        if low > high:
            raise ValueError(f"interval ({low}, {high}) of claim {self.claim!r}: give the lower end first")
        # NumPy's numbers would not survive the way into JSON.
        object.__setattr__(self, "effect", float(self.effect))
        object.__setattr__(self, "interval", (low, high))

    def as_json(self) -> dict[str, Any]:
        """The verdict as JSON has it: NaN and infinity become null."""
        return asdict(self) | {
            "effect": _to_json(self.effect),
            "interval": [_to_json(end) for end in self.interval],
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Verdict:
        """The verdict that `as_json` wrote.

        Raises:
            ValueError: if a field is missing, unknown or of another kind.
        """
        known, given = {field.name for field in fields(cls)}, set(value)
        if given != known:
            raise ValueError(f"a verdict with the wrong fields: {', '.join(sorted(given ^ known))}")
        try:
            low, high = value["interval"]
            numbers = {
                "effect": _from_json(value["effect"]),
                "interval": (_from_json(low), _from_json(high)),
            }
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"effect or interval of claim {value['claim']!r} is no number: {error}"
            ) from error
        return cls(**{**value, **numbers})

    def numbers(self) -> tuple[str, str]:
        """Effect and interval as text, with as many decimals as the largest of them deserves."""
        values = (self.effect, *self.interval)
        largest = max((abs(x) for x in values if math.isfinite(x)), default=0.0)
        if 0 < largest < 1e-3:
            style = "+.1e"
        else:
            style = f"+.{min(max(2 - math.floor(math.log10(largest)), 0), 4) if largest else 0}f"
        effect, low, high = ("—" if math.isnan(x) else format(x, style).replace("-", "−") for x in values)
        return effect, "—" if low == high == "—" else f"[{low}, {high}]"


@dataclass(frozen=True)
class VerdictTable:
    """Verdicts as a table: the value of a notebook's last cell.

    Attributes:
        verdicts: its rows, in the order of the table.
    """

    verdicts: tuple[Verdict, ...]

    def __len__(self) -> int:
        return len(self.verdicts)

    def __iter__(self) -> Iterator[Verdict]:
        return iter(self.verdicts)

    def __str__(self) -> str:
        if not self.verdicts:
            return "(no verdicts)"
        rows = [("claim", "data set", "verdict", "effect", "interval", "unit", "profile")]
        for one in self.verdicts:
            mark = f"{MARKS[one.verdict]} {one.verdict}"
            rows.append((one.claim, one.dataset, mark, *one.numbers(), one.unit, one.profile))
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        rows.insert(1, tuple("─" * width for width in widths))  # type: ignore[arg-type]
        return "\n".join(
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in rows
        )

    def to_html(self) -> str:
        """The table as a piece of HTML with its own style."""
        heads = ("claim", "data set", "verdict", "effect, interval", "profile")
        style = "text-align:left;white-space:normal;vertical-align:top"
        rows = []
        for one in self.verdicts:
            claim = f"<b>{escape(one.claim)}</b><br>{escape(one.statement)}"
            effect, interval = map(escape, one.numbers())
            numbers = f"{effect}&ensp;{interval}<br>{escape(one.unit)}"
            cells = (claim, escape(one.dataset), badge(one.verdict), numbers, escape(one.profile))
            rows.append("<tr>" + "".join(f'<td style="{style}">{cell}</td>' for cell in cells) + "</tr>")
        head = "".join(f'<th style="text-align:left">{name}</th>' for name in heads)
        return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"

    def to_matrix_html(self, link: Callable[[Verdict], str]) -> str:
        """Claims as rows, data sets as columns; `link` gives the piece of HTML that leads to the notebook."""
        datasets = list(dict.fromkeys(one.dataset for one in self.verdicts))
        statements = {one.claim: one.statement for one in self.verdicts}
        rows = []
        for claim, statement in statements.items():
            cells = [f'<th scope="row">{escape(claim)}<p>{escape(statement)}</p></th>']
            for dataset in datasets:
                here = [one for one in self.verdicts if (one.claim, one.dataset) == (claim, dataset)]
                cells.append(f"<td>{''.join(_entry(one, link(one)) for one in here) or '·'}</td>")
            rows.append(f"<tr>{''.join(cells)}</tr>")
        head = "".join(f'<th scope="col">{escape(dataset)}</th>' for dataset in datasets)
        return (
            f'<table class="verdicts"><thead><tr><th scope="col">claim</th>{head}</tr></thead>'
            f"<tbody>{''.join(rows)}</tbody></table>"
        )

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, Any]:
        return {
            "text/plain": str(self),
            "text/html": self.to_html(),
            MIME: [one.as_json() for one in self.verdicts],
        }


def badge(verdict: str) -> str:
    """The verdict as a small coloured label in HTML."""
    text, background = _COLOURS[verdict]
    style = f"color:{text};background:{background};padding:1px 7px;border-radius:9px;white-space:nowrap"
    return f'<span style="{style}">{MARKS[verdict]} {escape(verdict)}</span>'


def collect(cells: Iterable[Mapping[str, Any]], notebook: str) -> tuple[Verdict, ...]:
    """The verdicts in the outputs of a notebook's cells, each with the notebook's name.

    Raises:
        ValueError: if an output says that it holds verdicts, but does not.
    """
    found: list[Verdict] = []
    for cell in cells:
        for output in cell.get("outputs", ()):
            for value in output.get("data", {}).get(MIME, ()):
                found.append(Verdict.from_json({**value, "notebook": notebook}))
    return tuple(found)


def _entry(one: Verdict, link: str) -> str:
    numbers = "" if math.isnan(one.effect) else escape(" ".join((*one.numbers(), one.unit)))
    return (
        f'<div class="verdict">{badge(one.verdict)}<div class="numbers">{numbers}</div>'
        f'<div class="origin">{escape(one.profile)} · {link}</div></div>'
    )


def _to_json(number: float) -> float | None:
    return number if math.isfinite(number) else None


def _from_json(number: float | None) -> float:
    return math.nan if number is None else float(number)


def verdict_of(effect: float, interval: tuple[float, float], p: float, seeds: Sequence[float]) -> str:
    """The verdict on one effect, by the rule at the top of `comparison_verdicts`.

    Args:
        effect: positive speaks for the claim.
        interval: of the effect, 95 %.
        p: corrected.
        seeds: the effect for each seed.
    """
    low, high = interval
    agree = sum(np.sign(seed) == np.sign(effect) for seed in seeds)
    if p < LEVEL and (low > 0 or high < 0) and agree >= max(len(seeds) - 1, 1):
        return "reproduced" if effect > 0 else "not reproduced"
    return "direction only" if all(seed > 0 for seed in seeds) else "undecided"
