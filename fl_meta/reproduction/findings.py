"""What the recorded evidence says and where the runs of a reproduction lie in it, for the report."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from fl_meta import plots
from fl_meta.evidence.crossed_results import recorded_designs
from fl_meta.evidence.crossed_tables import cause_table, evidence_table
from fl_meta.evidence.crossed_words import answers, cause_answer, rows_of, sentences
from fl_meta.evidence.own_run import own_runs
from fl_meta.support.text_table import signed


@dataclass(frozen=True)
class Findings:
    """Sentences, the forest plot, and the tests of one's own runs.

    Attributes:
        answers: a sentence for each claim, and one on what makes the second stage better.
        sentences: a sentence for each test, which says what the figure shows.
        figure: the forest plot, a PNG file.
        own: a row for each test in one's own runs, as text; empty if there are none.
        outside: how many of these tests lie outside the spread of the recorded runs.
    """

    answers: list[str]
    sentences: list[str]
    figure: bytes
    own: list[Mapping[str, str]]
    outside: int

    @property
    def source(self) -> str:
        """The figure for the `src` of a page's image."""
        return f"data:image/png;base64,{b64encode(self.figure).decode()}"

    @property
    def own_sentence(self) -> str:
        """How many of the tests in one's own runs lie within the spread of the recorded runs."""
        if not self.own:
            return "No run here can be compared with the recorded ones: the profile shortens them."
        within = len(self.own) - self.outside
        return (
            f"Of {len(self.own)} tests in your runs, {within} lie within the spread of the recorded runs. "
            "About one in twenty is outside by chance."
        )


def findings(recorded: Path, experiments: Path) -> Findings | None:
    """The findings, or None if nothing is recorded.

    Args:
        recorded: folder of the recorded results.
        experiments: folder of the results that the reproduction computed.

    Raises:
        ResultError: if a file cannot be used.
    """
    designs = recorded_designs(recorded)
    if not designs:
        return None
    evidence, own = evidence_table(designs.values()), own_runs(designs.values(), experiments)
    picture = BytesIO()
    plots.forest_plot(evidence, None if own.empty else own).savefig(picture, dpi=130)
    found = rows_of(own)
    return Findings(
        [*answers(evidence), cause_answer(cause_table(designs.values()))],
        list(sentences(evidence).values()),
        picture.getvalue(),
        [_own_row(row) for row in found],
        sum(not row["within"] for row in found),
    )


def _own_row(row: Mapping[str, Any]) -> Mapping[str, str]:
    return {
        "test": row["claim"],
        "data set": f"{row['dataset']}, {row['regime']}",
        "effect, points": signed(row["effect"]),
        "expected": f"{signed(row['low'])} to {signed(row['high'])}",
        "within": "✔ within" if row["within"] else "✘ outside",
    }
