"""The evidence on claims 2 and 3 in words: a mark for each verdict, sentences, and small tables."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd

from fl_meta.evidence.crossed_rules import CLAIM_TESTS, VERDICTS
from fl_meta.evidence.crossed_tables import as_verdicts
from fl_meta.evidence.verdicts import MARKS
from fl_meta.support.text_table import aligned, markdown_table, signed

LEGEND = (
    "✔ reproduced, ✖ contradicted (✓, ✗: the same, but too small to matter), = no difference, ? undecided "
    "(± half the 95 % interval), ∅ the claim's premise is not met"
)
SUMMARY = {
    "**2a.** Reptile with Adam after FedAvg beats as many more rounds of FedAvg: initial, personalized "
    "model": ("2a-initial", "2a-personalized"),
    "**2b.** Tuning for global accuracy alone weakens the personalized model: FedSGD, FedAvg(E=1)": (
        "2b-FedSGD",
        "2b-small-E",
    ),
    "**3.** A centrally trained model gains less from equal accuracy, and ends lower, each at its best": (
        "3-matched",
        "3-best",
    ),
}
_ANSWERED = (
    "Claim 2a, that Reptile after FedAvg is better than more FedAvg",
    "Claim 2b, that tuning for global accuracy alone weakens the personalized model",
    "Claim 3, that a centrally trained model is harder to personalize",
)
ANSWERS = dict(zip(_ANSWERED, SUMMARY.values(), strict=True))
CHANGES = {
    "Adam instead of as before": "Adam at the server helps",
    "smaller server rate instead of as before": "a smaller rate of the server",
    "Reptile's update instead of FedAvg's": "Reptile's update",
}
"""Contrasts of the second stage, each changing one thing, as a sentence calls them."""
REGIMES = ("stable", "unstable")
# What a sentence says of the tests with a verdict: of one of them, and of several.
_COUNTED = {
    "reproduced": ("reproduces it", "reproduce it"),
    "reproduced, but small": ("shows it too small to matter", "show it too small to matter"),
    "no difference": ("shows no difference", "show no difference"),
    "undecided": ("is undecided", "are undecided"),
    "premise not met": ("lacks its premise", "lack its premise"),
    "contradicted, but small": (
        "contradicts it by too little to matter",
        "contradict it by too little to matter",
    ),
    "contradicted": ("contradicts it", "contradict it"),
}


def rows_of(table: pd.DataFrame, claim: str | None = None) -> list[dict[str, Any]]:
    """The rows of a table, of one claim perhaps, by the names of its columns.

    Example:
        >>> [row["verdict"] for row in rows_of(evidence, "2a-initial")]  # doctest: +SKIP
        ['reproduced', 'no difference']
    """
    rows = [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]
    return rows if claim is None else [row for row in rows if row["claim"] == claim]


def short_label(dataset: str) -> str:
    """The label of a data set without saying that it is synthetic.

    Example:
        >>> short_label("writers (synthetic)")
        'writers'
    """
    return dataset.replace(" (synthetic)", "")


def sentences(evidence: pd.DataFrame) -> dict[str, str]:
    """For each claim that was tested a sentence: what it says, and where which verdict was found.

    Example:
        >>> print(sentences(evidence)["3-best"])  # doctest: +SKIP
        Each at its best, …: no difference on unipen62; contradicted on writers, mnist_by_writer.
    """
    found = {}
    for test in CLAIM_TESTS:
        rows = rows_of(evidence, test.claim)
        parts = [
            f"{verdict.replace('but small', 'but too small to matter,')} on {_places(some, test.claim)}"
            for verdict in VERDICTS
            if (some := [row for row in rows if row["verdict"] == verdict])
        ]
        if parts:
            found[test.claim] = f"{test.statement}: {'; '.join(parts)}."
    return found


def answers(evidence: pd.DataFrame) -> list[str]:
    """For each of claims 2a, 2b and 3 that was tested, a sentence that counts the verdicts.

    Example:
        >>> answers(evidence)[-1]  # doctest: +SKIP
        'Claim 3, …: of 4 tests, 1 reproduces it, 2 show no difference and 1 contradicts it.'
    """
    tested = set(evidence.claim)
    return [
        f"{claim}: {_counted(evidence, tests)}." for claim, tests in ANSWERS.items() if tested & set(tests)
    ]


def cause_answer(causes: pd.DataFrame) -> str:
    """A sentence that counts where which change of the second stage helps, from `cause_table`.

    Example:
        >>> cause_answer(causes)  # doctest: +SKIP
        'Of the changes that the second stage makes, Adam at the server helps in 4 of 12 places, …'
    """
    helps = causes[causes.verdict.str.startswith("helps")]
    places = len(causes) // causes.contrast.nunique()
    counts = {name: (helps.contrast == contrast).sum() for contrast, name in CHANGES.items()}
    first, *others = (f"{name} in {count or 'none'}" for name, count in counts.items())
    told = _listed([f"{first} of {places} places (data set, regime, initial or personalized model)", *others])
    return f"Of the changes that the second stage makes, each taken alone, {told}."


def _counted(evidence: pd.DataFrame, claims: Sequence[str]) -> str:
    found = [row["verdict"] for claim in claims for row in rows_of(evidence, claim)]
    counts = {verdict: found.count(verdict) for verdict in VERDICTS if verdict in found}
    parts = [f"{number} {_COUNTED[verdict][number > 1]}" for verdict, number in counts.items()]
    return f"of {len(found)} test{'s' if len(found) > 1 else ''}, {_listed(parts)}"


def entry(row: dict[str, Any]) -> str:
    """A verdict's mark with the effect in points, or with how uncertain it is where it is undecided.

    Example:
        >>> entry({"verdict": "undecided", "effect": 0.31, "low": -0.6, "high": 1.2})
        '? ±0.9'
    """
    mark = MARKS[row["verdict"]]
    if row["verdict"] == "premise not met":
        return mark
    if row["verdict"] == "undecided":
        return f"{mark} ±{(row['high'] - row['low']) / 2:.1f}"
    return f"{mark} {signed(row['effect'])}"


def summary_table(evidence: pd.DataFrame) -> str:
    """Claims × data sets in Markdown: the entries of the stable and, after a stroke, the unstable regime.

    Claim 3 is tested in the stable regime alone. What is not recorded is a dash.

    Example:
        >>> print(summary_table(evidence))  # doctest: +SKIP
    """
    datasets = list(dict.fromkeys(evidence.dataset))
    entries = {(row["claim"], row["dataset"], row["regime"]): entry(row) for row in rows_of(evidence)}

    def cell(claim: str, dataset: str) -> str:
        regimes = REGIMES[:1] if claim.startswith("3") else REGIMES
        return " / ".join(entries.get((claim, dataset, regime), "–") for regime in regimes)

    rows = [
        [statement, *("<br>".join(cell(claim, dataset) for claim in claims) for dataset in datasets)]
        for statement, claims in SUMMARY.items()
    ]
    return markdown_table(["claim", *(f"*{short_label(dataset)}*" for dataset in datasets)], rows)


def evidence_text(evidence: pd.DataFrame) -> str:
    """The verdict on every test as a table for a terminal, grouped by claim.

    Example:
        >>> print(evidence_text(evidence))  # doctest: +SKIP
    """
    head = (
        "claim",
        "data set",
        "regime",
        "verdict",
        "effect",
        "95 % interval",
        "margin",
        "replicates",
    )
    rows = []
    for test in CLAIM_TESTS:
        for number, row in enumerate(rows_of(evidence, test.claim)):
            numbers = (signed(row["effect"], 2), interval_text(row), f"{row['margin']:g}")
            label, verdict = row["dataset"], f"{MARKS[row['verdict']]} {row['verdict']}"
            claim = "" if number else test.claim
            rows.append((claim, label, row["regime"], verdict, *numbers, str(row["replicates"])))
    return aligned(head, rows)


def interval_text(row: dict[str, Any]) -> str:
    """The 95 % interval of an effect, in points.

    Example:
        >>> interval_text({"low": -0.6, "high": 1.234})
        '[−0.60, +1.23]'
    """
    return f"[{signed(row['low'], 2)}, {signed(row['high'], 2)}]"


def evidence_json(evidence: pd.DataFrame) -> list[dict[str, Any]]:
    """The evidence as JSON values, by claim: the fields of a `Verdict`, and what else its table has.

    Example:
        >>> [one["verdict"] for one in evidence_json(evidence)]  # doctest: +SKIP
        ['reproduced', 'no difference']
    """
    values = []
    for test in CLAIM_TESTS:
        rows = evidence[evidence.claim == test.claim] if len(evidence) else evidence
        for verdict, row in zip(as_verdicts(rows), rows_of(rows), strict=True):
            more = {name: row[name] for name in ("margin", "p", "p_holm", "replicates", "clients", "ceiling")}
            premise = None if math.isnan(row["premise"]) else row["premise"]
            values.append(verdict.as_json() | more | {"premise": premise})
    return values


def _places(rows: Sequence[dict[str, Any]], claim: str) -> str:
    """The data sets of rows, with the regimes unless the claim is tested in one alone."""
    regimes: dict[str, list[str]] = {}
    for row in rows:
        regimes.setdefault(short_label(row["dataset"]), []).append(row["regime"])
    if claim.startswith("3"):
        return _listed(list(regimes))
    groups: dict[str, list[str]] = {}
    for label, some in regimes.items():
        groups.setdefault("both regimes" if len(some) > 1 else some[0], []).append(label)
    return ", ".join(f"{_listed(labels)} ({regime})" for regime, labels in groups.items())


def _listed(parts: Sequence[str]) -> str:
    return " and ".join(part for part in (", ".join(parts[:-1]), parts[-1]) if part)
