"""What every exercise's check must do with a right answer and with a wrong one."""

from __future__ import annotations

from typing import Any

from fl_meta.course import check


def assert_right(name: str, answer: Any, **given: Any) -> None:
    reply = check.answer(name, answer, **given)
    assert reply, reply


def assert_wrong(name: str, answer: Any, word: str, **given: Any) -> None:
    """The answer is refused with this word."""
    reply = check.answer(name, answer, **given)
    assert reply.verdict == "wrong"
    assert word in reply.words, reply
