"""Checks of exercises: what they accept, and what they say about what students get wrong."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from fl_meta.course import check, choice, exercise, function, number, registry, subset, values
from fl_meta.course.registry import NotFilledInError

ARMS = ("FedAvg (5)", "Reptile", "FOMAML")


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No exercise and no prediction of a test outlives it."""
    registry.exercise_named("01.1")  # is there in every test, or a module that is imported once would be lost
    monkeypatch.setattr(registry, "_exercises", dict(registry._exercises))
    monkeypatch.setattr(check, "_predictions", {})
    yield


# --- numbers --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer",
    [
        *(0.273, 0.27, 0.2749, 0.265, np.float32(0.273), np.array([0.27]), torch.tensor(0.27)),
        *(Fraction(3, 11), Decimal("0.27"), pd.Series([0.273]), torch.tensor([[0.273]], requires_grad=True)),
    ],
)
def test_a_number_is_right_in_any_form_and_rounding(answer: Any) -> None:
    assert number(answer, 0.27, digits=2) is None


@given(st.floats(1e-6, 1e6), st.integers(1, 6), st.sampled_from([-1, 1]))
def test_who_rounds_to_the_digits_asked_for_is_right(size: float, digits: int, sign: int) -> None:
    expected = sign * size
    assert number(float(f"{expected:.{digits - 1}e}"), expected, digits=digits) is None
    place = 10.0 ** math.floor(math.log10(size))
    assert number(expected + 2 * place * 10.0 ** (1 - digits), expected, digits=digits) is not None


@pytest.mark.parametrize(
    ("answer", "unit", "word"),
    [
        (0.273, "per cent", "is a share"),
        (27.3, "share", "in per cent"),
        (-0.273, "share", "Look at the sign"),
        (2.73, None, "the point in a wrong place"),
        (0.28, "share", "is close"),
        (0.4, "share", "too large"),
        (0.1, "share", "too small"),
        ("0.27", "share", "without quotation marks"),
        (True, "share", "no number"),
        (np.bool_(True), "share", "no number"),
        (None, "share", "None is no number"),
        (0.27j, "share", "no number"),
        ([0.27], "share", "no number"),
        ({"gain": 0.27}, "share", "no number"),
        (float("nan"), "share", "division by 0"),
        (torch.tensor(float("inf")), "share", "division by 0"),
        (np.array([0.27, 0.27]), "share", "2 values"),
        (torch.zeros(3), "share", "3 values"),
        (lambda: 0.27, "share", "Call it"),
    ],
)
def test_what_a_check_says_about_a_wrong_number(answer: Any, unit: Any, word: str) -> None:
    expected = 27.3 if unit == "per cent" else 0.273
    reply = number(answer, expected, unit=unit, hint="A hint.")
    assert reply is not None and word in reply


def test_a_count_must_be_exact() -> None:
    assert number(5, 5, digits=None) is number(5.0, 5, digits=None) is None
    assert number(5.001, 5, digits=None) == "5.001 is too large."
    assert number(4.9, 5, digits=None, hint="Count again.") == "4.9 is too small. Count again."


def test_zero_and_what_rounds_to_it() -> None:
    assert number(0, 0.0) is number(0.004, 0.0) is None
    assert number(0.006, 0.0) == "0.006 is too large."


def test_a_mistake_that_happens_to_be_right_is_right() -> None:
    mistakes = {1: "One vector, but of how many gradients?", 6: "One too many."}
    assert number(1, 1, digits=None, mistakes=mistakes) is None
    assert number(1, 5, digits=None, mistakes=mistakes) == mistakes[1]
    assert number(6.0, 5, digits=None, mistakes=mistakes, hint="unused") == mistakes[6]


@given(st.floats(-1e4, 1e4).filter(lambda x: abs(x) > 1e-3), st.floats(allow_nan=True, allow_infinity=True))
def test_a_number_is_never_told(expected: float, answer: float) -> None:
    reply = number(answer, expected, digits=4, unit="share", hint="A hint.")
    assume(reply is not None and f"{answer:.4g}" != f"{expected:.4g}")
    told = (reply or "").replace(f"{answer:.4g}", "").replace("4 digits", "").replace("0 and 1", "")
    assert not any(f"{expected:.{digits}g}" in told.split() for digits in range(1, 8))


# --- words ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer", ["FedAvg (5)", "fedavg(5)", " FEDAVG  ( 5 ) ", "Fed-Avg (5)", "fed_avg (5)"]
)
def test_a_choice_tolerates_capitals_and_spaces(answer: str) -> None:
    assert choice(answer, "FedAvg (5)", ARMS) is None


@pytest.mark.parametrize(
    ("answer", "word"),
    [
        ("reptile", "Who weighs more?"),
        ("fomaml", "Not FOMAML. Read section 3."),
        ("FedAvg (6)", "Did you mean FedAvg (5)?"),
        ("SGD", "none of: FedAvg (5), Reptile, FOMAML."),
        (5, "between quotation marks"),
        (None, "None is no choice"),
        (["FedAvg (5)"], "is no choice"),
    ],
)
def test_what_a_check_says_about_a_wrong_choice(answer: Any, word: str) -> None:
    reply = choice(answer, "FedAvg (5)", ARMS, words={"Reptile": "Who weighs more?"}, hint="Read section 3.")
    assert reply is not None and word in reply


def test_several_choices_may_be_right() -> None:
    assert choice("reptile", ["FedAvg (5)", "Reptile"], ARMS) is None
    assert choice("fomaml", ["FedAvg (5)", "Reptile"], ARMS) == "Not FOMAML."


def test_options_that_cannot_be_told_apart_are_an_error() -> None:
    with pytest.raises(ValueError, match="differ in signs and spaces only: -1, 1"):
        choice("1", "1", ["-1", "1"])


@pytest.mark.parametrize("answer", [{"maml", "FOMAML"}, ["FO-MAML", "MAML"], ("MAML", "FOMAML", "maml")])
def test_a_subset_has_no_order(answer: Any) -> None:
    assert subset(answer, ["MAML", "FOMAML"], ["MAML", "FOMAML", "FedSGD", "Reptile"]) is None


@pytest.mark.parametrize(
    ("answer", "reply"),
    [
        ({"MAML"}, "1 of 1 belongs to it; 1 is missing."),
        ({"MAML", "FOMAML", "Reptile"}, "2 of 3 belong to it."),
        ({"Reptile"}, "0 of 1 belong to it; 2 are missing."),
        ({"MAML", "FedSGD"}, "It makes no local step."),
        (set(), "0 of 0 belong to it; 2 are missing."),
        ({"mamll"}, "'mamll' is none of: MAML, FOMAML, FedSGD, Reptile. Did you mean MAML?"),
        ({3}, "3 is none of: MAML, FOMAML, FedSGD, Reptile."),
        ("MAML", "'MAML' is not a set; write one or more words, such as {'…', '…'}, of: "),
        (7, "7 is not a set; "),
    ],
)
def test_what_a_check_says_about_a_wrong_subset(answer: Any, reply: str) -> None:
    options = ["MAML", "FOMAML", "FedSGD", "Reptile"]
    said = subset(answer, ["MAML", "FOMAML"], options, words={"FedSGD": "It makes no local step."})
    assert said is not None and said.startswith(reply)


# --- functions and values -------------------------------------------------------------------------------

CASES = [(1, 0.5), (2, 0.25), (4, 3.0)]


def area(count: int, rate: float) -> float:
    return count * rate**2


@pytest.mark.parametrize(
    ("answer", "word"),
    [
        (lambda count, rate: -area(count, rate), "Look at the sign"),
        (lambda count, rate: 3 * area(count, rate), "3 times as long"),
        (lambda count, rate: count * rate, "Square it."),
        (lambda count, rate: rate**2, "right for 1 of the 3 inputs tried. One where it is not: 2, 0.25."),
        (lambda count: count, "raises TypeError: "),
        (lambda count, rate: [count, rate], "shape [2]"),
        (lambda count, rate: float("nan"), "NaN"),
        (lambda count, rate: "many", "A str is no number"),
        (lambda count, rate: {"area": 1.0}, "parts are not those of a right answer: area"),
        (lambda count, rate: area(count, rate) if count == 1 else None, "every way through it"),
        (lambda count, rate: 1 / 0, "raises ZeroDivisionError: division by zero"),
        (0.25, "without parentheses"),
    ],
)
def test_what_a_check_says_about_a_wrong_function(answer: Any, word: str) -> None:
    mistakes = [(lambda count, rate: count * rate, "Square it.")]
    reply = function(answer, area, CASES, mistakes=mistakes, hint="A hint.")
    assert reply is not None and word in reply


def test_a_function_may_be_written_in_any_way() -> None:
    assert function(lambda n, b: np.float32(n * b * b), area, CASES) is None
    assert function(lambda n, b: torch.tensor(float(n)) * b * b, area, CASES) is None


def test_a_function_of_which_nothing_is_written() -> None:
    def blank(count: int, rate: float) -> Any: ...

    for one in (blank, lambda count, rate: ...):
        with pytest.raises(NotFilledInError, match="returns nothing yet"):
            function(one, area, CASES)


def test_a_function_gets_copies_of_its_arguments() -> None:
    def empties(numbers: list[float]) -> float:
        total = 0.0
        while numbers:
            total += numbers.pop()
        return total

    case = ([1.0, 2.0, 4.0],)
    assert function(empties, sum, [case, case]) is None
    assert case == ([1.0, 2.0, 4.0],)


def test_one_form_of_arguments_is_enough() -> None:
    forms = {"numbers": [(1.0,), (2.0,)], "texts": [("1",), ("2",)]}

    def oracle(value: float | str) -> float:
        return 2 * float(value)

    assert function(lambda value: 2 * value, oracle, forms) is None
    assert function(lambda value: len(value) * 2.0 * int(value), oracle, forms) is None
    # What is wrong in the form that its author meant, not that it cannot do with the other.
    reply = function(lambda value: float(value.replace("1", "3")), oracle, forms)
    assert reply == "It is right for 0 of the 2 inputs tried."
    reply = function(lambda value: value.real.text, oracle, forms)
    assert reply == "Your function raises AttributeError: 'float' object has no attribute 'text'"


RIGHT = {"weight": torch.tensor([[3.0, 0.0], [0.0, 1.0]]), "bias": torch.tensor([2.0])}


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda w, b: {"weight": 0.5 * w, "bias": 0.5 * b}, "0.5 times as long"),
        (lambda w, b: {"weight": -w, "bias": -b}, "Look at the sign"),
        (lambda w, b: {"weight": w.flatten(), "bias": b}, "weight has the shape [4]"),
        (lambda w, b: {"weight": w}, "not those of a right answer: weight."),
        (lambda w, b: {"weight": w, "bias": b / 0}, "NaN or infinity"),
        (lambda w, b: {"weight": w, "bias": 2 * b}, "Neither its direction nor its length"),
        (lambda w, b: "w", "A str is no number"),
    ],
)
def test_what_a_check_says_about_wrong_parameters(change: Callable[..., Any], word: str) -> None:
    reply = values(change(RIGHT["weight"], RIGHT["bias"]), RIGHT)
    assert reply is not None and word in reply


def test_values_may_be_lists_and_rounded_as_float32_is() -> None:
    assert values([[1, 2], [3, 4]], np.array([[1.0, 2.0], [3.0, 4.0]])) is None
    assert values({name: one.double() * (1 + 1e-7) for name, one in RIGHT.items()}, RIGHT) is None
    assert values([1.0, 2.0, 3.001], [1, 2, 3]) == "Neither its direction nor its length is right."


# --- exercises in a notebook ----------------------------------------------------------------------------


def test_a_reply_says_what_is_right_wrong_or_blank() -> None:
    @exercise("98.1", stars=1)
    def _(answer: Any, clients: list[str]) -> str | None:
        return number(answer, len(clients), digits=None)

    right, wrong, blank = (check.answer("98.1", one, clients=["a", "b"]) for one in (2, 3, ...))
    assert (repr(right), repr(wrong)) == ("✔ 98.1: right.", "✘ 98.1: 3 is too large.")
    assert right and not wrong and not blank
    assert blank.verdict == "not filled in" and "replace `...`" in repr(blank)
    assert check.answer("98.1", 2, clients=...).words.startswith("clients is still `...`")
    with pytest.raises(TypeError, match=r"'clients'; write check.answer\('98.1', answer, clients=clients\)"):
        check.answer("98.1", 2)
    with pytest.raises(TypeError, match="unexpected keyword argument 'roles'"):
        check.answer("98.1", 2, clients=[], roles=[])


@pytest.mark.parametrize("answer", [[1, ...], (1, (2, ...)), {"FedAvg": ...}, {"a": [..., 1]}])
def test_a_blank_inside_an_answer_is_a_blank(answer: Any) -> None:
    @exercise("98.2", stars=1)
    def _(answer: Any) -> str | None:
        raise AssertionError("not to be judged")

    assert check.answer("98.2", answer).verdict == "not filled in"


def test_names_of_exercises() -> None:
    for name in ("1.1", "01", "01.x", "one.1"):
        with pytest.raises(ValueError, match=r"an exercise is called NN\.M"):
            exercise(name, stars=1)
    with pytest.raises(ValueError, match=r"exercise 98\.1 has stars=4; choose 1 to 3"):
        exercise("98.1", stars=4)
    with pytest.raises(ValueError, match=r"there is no exercise '01.11'; did you mean 01\.1\d?\?"):
        check.answer("01.11", 1)
    with pytest.raises(
        ValueError, match=r"exercise 01.1 is already in fl_meta\.course\.exercises\.lesson_01"
    ):
        exercise("01.1", stars=1)(lambda answer: None)


def test_a_cell_may_define_its_exercise_again() -> None:
    exercise("98.3", stars=1)(lambda answer: "first")
    exercise("98.3", stars=2)(lambda answer: "second")
    assert check.answer("98.3", 0).words == "second"


# --- predictions ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("predicted", "measured", "words"),
    [
        (0.3, 0.25, "you predicted 0.3, the run gives 0.25: lower by 0.05."),
        (20, np.float64(27.31), "you predicted 20, the run gives 27.3: higher by 7.3."),
        (0.25, 0.2501, "you predicted 0.25, the run gives 0.25."),
        ("FedAvg", "Reptile", "you predicted FedAvg, the run gives Reptile."),
        ("a lot", 3.0, "you predicted a lot, the run gives 3."),
        (True, False, "you predicted True, the run gives False."),
        (
            {"a": 1, "b": 2},
            {"a": 1.5},
            "a: you predicted 1, the run gives 1.5: higher by 0.5; b: the run has no such.",
        ),
    ],
)
def test_a_prediction_is_kept_and_put_beside_the_run(predicted: Any, measured: Any, words: str) -> None:
    assert check.predict("98.a", predicted).verdict == "noted"
    reply = check.prediction("98.a", measured)
    assert (reply.words, reply.verdict) == (words, "noted")


def test_a_prediction_that_nobody_made() -> None:
    assert check.predict("98.a", ...).verdict == "not filled in"
    reply = check.prediction("98.a", 0.25)
    assert repr(reply) == "… 98.a: you made no prediction; the run gives 0.25."
    check.predict("98.a", 0.5)
    check.predict("98.a", 0.75)
    assert "0.75" in repr(check.prediction("98.a", 0.25))
    check.predict("98.a", {"FedAvg": ...})
    assert check.prediction("98.a", 0.25).verdict == "not filled in"
