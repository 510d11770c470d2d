"""Verdicts: what a run says about each claim of the paper, and how a notebook shows it.

A notebook shows a `VerdictTable`. Besides text and HTML, its output carries the verdicts themselves. The
report reads them back from the outputs of the notebooks that it has just run, so there is no file of verdicts
that could be shown instead of computed ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from html import escape
from typing import Any

from fl_meta.experiments.settings import PROFILES, RECORDED
from fl_meta.support.text_table import aligned

LEVEL = 0.05  # significance level for corrected p values
MARKS = {
    "reproduced": "✔",
    "not reproduced": "✘",
    "undecided": "?",
    "reproduced, but small": "✓",
    "no difference": "=",
    "premise not met": "∅",
    "contradicted, but small": "✗",
    "contradicted": "✖",
}
"""All verdicts, each with a mark, so that colour alone does not tell them apart."""

MIME = "application/vnd.fl-meta.verdicts+json"

# From the palette of Okabe and Ito, which colour-blind readers can tell apart: (text, background).
_FOR, _AGAINST, _EQUAL = ("#004d75", "#d6ebf7"), ("#7d3100", "#f9ddcd"), ("#1f5b46", "#d8f0e6")
COLOURS = {
    "reproduced": _FOR,
    "reproduced, but small": _FOR,
    "no difference": _EQUAL,
    "undecided": ("#444444", "#ececec"),
    "premise not met": ("#444444", "#ececec"),
    "contradicted, but small": _AGAINST,
    "contradicted": _AGAINST,
    "not reproduced": _AGAINST,
}


@dataclass(frozen=True)
class Verdict:
    """What a run says about one claim on one data set.

    Attributes:
        claim: short name of the claim, the same on every data set.
        dataset: label of the data set; a synthetic one says so in its label.
        verdict: one of `MARKS`.
        effect: the measured effect; NaN where nothing was measured.
        interval: lower and upper end of the effect's interval; NaN where there is none.
        profile: one of `PROFILES`, or `RECORDED`.
        notebook: name of the notebook that shows the verdict; the report fills it in.
        regime: of the crossed design, 'stable' or 'unstable'; empty elsewhere.

    Example:
        >>> verdict = Verdict("3-best", "…", "writers", "reproduced", 1.2, (0.4, 2.0), "points", "laptop")
        >>> verdict.numbers()
        ('+1.20', '[+0.40, +2.00]')
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
    regime: str = ""

    def __post_init__(self) -> None:
        """Check the values and make the numbers plain floats."""
        for name in ("claim", "dataset"):
            if not getattr(self, name):
                raise ValueError(f"a verdict needs a {name}; it is empty")
        if self.verdict not in MARKS:
            raise ValueError(f"verdict {self.verdict!r} is not one of {', '.join(MARKS)}")
        if self.profile not in (*PROFILES, RECORDED):
            raise ValueError(f"profile {self.profile!r} is not one of {', '.join((*PROFILES, RECORDED))}")
        low, high = (float(end) for end in self.interval)
        if low > high:
            raise ValueError(f"interval ({low}, {high}) of claim {self.claim!r}: the lower end comes first")
        # NumPy's numbers cannot be written as JSON.
        object.__setattr__(self, "effect", float(self.effect))
        object.__setattr__(self, "interval", (low, high))

    def as_json(self) -> dict[str, Any]:
        """The verdict as a JSON value; NaN and infinity become null."""
        return asdict(self) | {
            "effect": _to_json(self.effect),
            "interval": [_to_json(end) for end in self.interval],
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Verdict:
        """Read the verdict that `as_json` wrote; a ValueError says what is wrong with another value."""
        # Notebooks built before there were regimes do not name one.
        known, given = {field.name for field in fields(cls)}, set(value) | {"regime"}
        if given != known:
            raise ValueError(f"a verdict with the wrong fields: {', '.join(sorted(given ^ known))}")
        try:
            low, high = value["interval"]
            effect, *interval = map(_from_json, (value["effect"], low, high))
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"effect or interval of claim {value['claim']!r} is not a number: {error}"
            ) from error
        return cls(**{**value, "effect": effect, "interval": tuple(interval)})

    @property
    def place(self) -> str:
        """The data set, with the regime of training where there are several."""
        return ", ".join(filter(None, (self.dataset, self.regime)))

    def numbers(self) -> tuple[str, str]:
        """Effect and interval as text, with a number of decimals that suits the largest of them."""
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
    """Verdicts as a table, to be the value of a notebook's last cell.

    Example:
        >>> verdict = Verdict("3-best", "…", "writers", "reproduced", 1.2, (0.4, 2.0), "points", "laptop")
        >>> table = VerdictTable((verdict,))
        >>> print(table)
        claim   data set  verdict       effect  interval        unit    profile
        ──────  ────────  ────────────  ──────  ──────────────  ──────  ───────
        3-best  writers   ✔ reproduced  +1.20   [+0.40, +2.00]  points  laptop
    """

    verdicts: tuple[Verdict, ...]

    def __len__(self) -> int:
        return len(self.verdicts)

    def __iter__(self) -> Iterator[Verdict]:
        return iter(self.verdicts)

    def __str__(self) -> str:
        if not self.verdicts:
            return "(no verdicts)"
        rows = []
        for verdict in self.verdicts:
            mark = f"{MARKS[verdict.verdict]} {verdict.verdict}"
            numbers = verdict.numbers()
            rows.append((verdict.claim, verdict.place, mark, *numbers, verdict.unit, verdict.profile))
        return aligned(("claim", "data set", "verdict", "effect", "interval", "unit", "profile"), rows)

    def to_html(self) -> str:
        """The table as HTML with inline styles."""
        heads = ("claim", "data set", "verdict", "effect, interval", "profile")
        style = "text-align:left;white-space:normal;vertical-align:top"
        rows = []
        for verdict in self.verdicts:
            claim = f"<b>{escape(verdict.claim)}</b><br>{escape(verdict.statement)}"
            effect, interval = map(escape, verdict.numbers())
            numbers = f"{effect}&ensp;{interval}<br>{escape(verdict.unit)}"
            label = badge(verdict.verdict)
            cells = (claim, escape(verdict.place), label, numbers, escape(verdict.profile))
            rows.append("<tr>" + "".join(f'<td style="{style}">{cell}</td>' for cell in cells) + "</tr>")
        head = "".join(f'<th style="text-align:left">{name}</th>' for name in heads)
        return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"

    def to_grouped_html(self, link: Callable[[Verdict], str]) -> str:
        """A table with a heading for each claim and a row for each data set and regime.

        `link` gives the HTML that links a verdict to its notebook. A test that several notebooks show is
        there once.
        """
        groups: dict[tuple[str, str], dict[tuple[str, str], str]] = {}
        for verdict in self.verdicts:
            rows = groups.setdefault((verdict.claim, verdict.statement), {})
            rows.setdefault((verdict.dataset, verdict.regime), _row(verdict, link(verdict)))
        bodies = "".join(
            f'<tbody><tr><th colspan="4" scope="rowgroup">{escape(claim)}. {escape(statement)}</th></tr>'
            f"{''.join(rows.values())}</tbody>"
            for (claim, statement), rows in groups.items()
        )
        heads = ("data set", "verdict", "effect, 95 % interval", "from")
        head = "".join(f'<th scope="col">{name}</th>' for name in heads)
        return f'<table class="verdicts"><thead><tr>{head}</tr></thead>{bodies}</table>'

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, Any]:
        return {
            "text/plain": str(self),
            "text/html": self.to_html(),
            MIME: [verdict.as_json() for verdict in self.verdicts],
        }


def badge(verdict: str) -> str:
    """The verdict as a small coloured HTML label."""
    text, background = COLOURS[verdict]
    style = f"color:{text};background:{background};padding:1px 7px;border-radius:9px;white-space:nowrap"
    return f'<span style="{style}">{MARKS[verdict]} {escape(verdict)}</span>'


def collect(cells: Iterable[Mapping[str, Any]], notebook: str) -> tuple[Verdict, ...]:
    """The verdicts in the outputs of a notebook's cells, each with the notebook's name."""
    return tuple(
        Verdict.from_json({**value, "notebook": notebook})
        for cell in cells
        for output in cell.get("outputs", ())
        for value in output.get("data", {}).get(MIME, ())
    )


def _row(verdict: Verdict, link: str) -> str:
    numbers = "" if math.isnan(verdict.effect) else escape(" ".join((*verdict.numbers(), verdict.unit)))
    cells = (badge(verdict.verdict), numbers, f"{escape(verdict.profile)} · {link}")
    values = "".join(f"<td>{cell}</td>" for cell in cells)
    return f'<tr><th scope="row">{escape(verdict.place)}</th>{values}</tr>'


def _to_json(number: float) -> float | None:
    return number if math.isfinite(number) else None


def _from_json(number: float | None) -> float:
    return math.nan if number is None else float(number)
