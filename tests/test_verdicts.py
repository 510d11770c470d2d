"""Verdicts: checks, numbers as text, and the way through a notebook's outputs and back."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fl_meta.evidence.verdicts import MARKS, MIME, Verdict, VerdictTable, collect

STATEMENT, DATASET = "Personalization helps <most> clients", "writers (synthetic)"
GOOD = Verdict("gain", STATEMENT, DATASET, "reproduced", 2.34, (1.2, 3.4), "percentage points", "smoke")
NOTHING = {"effect": math.nan, "interval": (math.nan, math.nan)}
NOT_MEASURED = replace(GOOD, dataset="shakespeare", verdict="premise not met", **NOTHING)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"verdict": "proved"}, "verdict 'proved' is not one of reproduced, not reproduced"),
        ({"profile": "huge"}, "profile 'huge' is not one of smoke, laptop, full"),
        ({"interval": (3, 1)}, "the lower end comes first"),
        ({"claim": ""}, "needs a claim"),
        ({"dataset": ""}, "needs a dataset"),
    ],
)
def test_a_wrong_verdict_says_what_is_wrong(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(GOOD, **change)


@pytest.mark.parametrize(
    ("effect", "interval", "expected"),
    [
        (2.34, (1.2, 3.4), ("+2.34", "[+1.20, +3.40]")),
        (-0.0123, (-0.02, 0.001), ("−0.0123", "[−0.0200, +0.0010]")),
        (123.4, (120, 130), ("+123", "[+120, +130]")),
        (3e-14, (1e-16, 3e-14), ("+3.0e−14", "[+1.0e−16, +3.0e−14]")),
        (0.0, (0.0, 0.0), ("+0", "[+0, +0]")),
        (1.0, (math.nan, math.nan), ("+1.00", "—")),
        (math.nan, (math.nan, math.nan), ("—", "—")),
    ],
)
def test_numbers_as_text(effect: float, interval: tuple[float, float], expected: tuple[str, str]) -> None:
    assert replace(GOOD, effect=effect, interval=interval).numbers() == expected


def test_text_is_an_aligned_table() -> None:
    lines = str(VerdictTable((GOOD, NOT_MEASURED))).splitlines()
    assert lines[0].split("  ")[0] == "claim"
    assert {line.index(word) for line, word in zip(lines[2:], ("✔", "∅"), strict=True)} == {
        lines[0].index("verdict")
    }
    assert "+2.34   [+1.20, +3.40]  percentage points  smoke" in lines[2]
    assert str(VerdictTable(())) == "(no verdicts)"


def test_html_escapes_texts_and_has_a_sign_beside_each_colour() -> None:
    html = VerdictTable((GOOD, NOT_MEASURED)).to_html()
    assert "&lt;most&gt;" in html and "<most>" not in html
    assert "✔ reproduced" in html and "writers (synthetic)" in html
    assert len(set(MARKS.values())) == len(MARKS)


def test_a_table_in_a_notebook_says_which_regime() -> None:
    unstable = replace(GOOD, regime="unstable")
    assert f"{GOOD.dataset}, unstable</td>" in VerdictTable((unstable,)).to_html()
    assert f"{GOOD.dataset}</td>" in VerdictTable((GOOD,)).to_html()


def test_a_grouped_table_has_a_heading_per_claim_and_a_row_per_data_set_and_regime() -> None:
    other = replace(GOOD, claim="speed", statement="It is <fast>")
    unstable = replace(other, regime="unstable")
    shown = (GOOD, NOT_MEASURED, other, unstable, replace(unstable, notebook="06_again"))
    html = VerdictTable(shown).to_grouped_html(lambda one: f"<a>{one.notebook}</a>")
    assert html.count("rowgroup") == 2 and "speed. It is &lt;fast&gt;" in html
    assert html.count('<th scope="row">') == 4, "a test that two notebooks show is there once"
    assert "writers (synthetic), unstable<" in html and "06_again" not in html


def test_a_notebooks_output_carries_the_verdicts() -> None:
    bundle = VerdictTable((GOOD, NOT_MEASURED))._repr_mimebundle_()
    assert set(bundle) == {"text/plain", "text/html", MIME}
    stored = json.loads(json.dumps(bundle, allow_nan=False))
    cells = [{"cell_type": "markdown"}, {"outputs": [{"output_type": "stream"}, {"data": stored}]}]
    found = collect(cells, "03_gain")
    assert [one.notebook for one in found] == ["03_gain", "03_gain"]
    assert replace(found[0], notebook="") == GOOD
    assert (
        found[1].verdict == "premise not met"
        and math.isnan(found[1].effect)
        and math.isnan(found[1].interval[0])
    )


def test_collecting_a_damaged_output_is_an_error() -> None:
    for value, message in [
        ({"claim": "gain"}, "wrong fields: .*effect"),
        (GOOD.as_json() | {"score": 1}, "wrong fields: score"),
        (GOOD.as_json() | {"effect": "big"}, "is not a number"),
        (GOOD.as_json() | {"interval": [1]}, "is not a number"),
    ]:
        with pytest.raises(ValueError, match=message):
            collect([{"outputs": [{"data": {MIME: [value]}}]}], "01_a")


def test_numbers_of_numpy_become_numbers_of_python() -> None:
    one = replace(GOOD, effect=np.float32(0.5), interval=(np.float64(0), np.float64(1)))
    assert type(one.effect) is float and [type(end) for end in one.interval] == [float, float]
    json.dumps(one.as_json(), allow_nan=False)


@given(
    st.floats(allow_infinity=False), st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=2)
)
def test_json_round_trip(effect: float, ends: list[float]) -> None:
    low, high = min(ends), max(ends)
    one = replace(GOOD, effect=effect, interval=(low, high))
    again = Verdict.from_json(json.loads(json.dumps(one.as_json(), allow_nan=False)))
    assert again == one or (math.isnan(effect) and math.isnan(again.effect))
    assert all(isinstance(text, str) for text in one.numbers())
