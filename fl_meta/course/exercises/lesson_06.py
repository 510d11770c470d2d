"""Exercises of lesson 06: text, controls and baselines."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from fl_meta.course.answers import number
from fl_meta.course.functions import function
from fl_meta.course.registry import NotFilledInError, exercise

Counts = Mapping[str, Mapping[str, int]]

_LONGEST = 7


@exercise("06.1", stars=1)
def _personal_share(answer: Any) -> str | None:
    """The share of a gain of 1.8 points that is personal, if somebody else's messages give 1.5."""
    own, borrowed = 1.8, 1.5
    return number(
        answer,
        (own - borrowed) / own,
        unit="share",
        mistakes={
            borrowed / own: "This is the share that anybody's messages would have given.",
            own - borrowed: "These are the points. What share of the whole gain are they?",
            (own - borrowed) / borrowed: "Divide by the gain from one's own messages: it is the whole.",
        },
        hint="What do own messages give that somebody else's do not, and what is the whole?",
    )


@exercise("06.2", stars=2)
def _probabilities(answer: Any) -> str | None:
    """A function of logits and a temperature: the probabilities of the characters."""
    logits = [torch.tensor([1.0, 0.0, -2.0]), torch.tensor([[0.5, 3.0], [2.0, 2.5]])]
    return function(
        answer,
        lambda logits, temperature: torch.softmax(logits / temperature, -1),
        [(one, temperature) for one in logits for temperature in (0.5, 1.0, 2.0)],
        mistakes=[
            (
                lambda logits, temperature: torch.softmax(logits * temperature, -1),
                "At a high temperature this is surer than at a low one. It should be less sure.",
            ),
            (
                lambda logits, temperature: torch.softmax(logits, -1) / temperature,
                "Do these probabilities add up to 1? The temperature belongs before the softmax.",
            ),
            (
                lambda logits, temperature: torch.softmax(logits, -1),
                "The temperature changes nothing yet.",
            ),
            (
                lambda logits, temperature: torch.softmax(logits / temperature, 0),
                "The characters are on the last axis.",
            ),
        ],
        hint="Divide the logits by the temperature, then take the softmax.",
    )


@exercise("06.3", stars=2)
def _share_known(answer: Any) -> str | None:
    """A function of two lists of ids: the share of the second whose names are also among the first."""

    def share(training: Sequence[str], new: Sequence[str], part: int = 2) -> float:
        known = {role.partition("/")[part] for role in training}
        return sum(role.partition("/")[part] in known for role in new) / len(new)

    cases = [
        (["henry-v/PISTOL", "hamlet/HAMLET", "macbeth/MACBETH"], ["henry-iv/PISTOL", "hamlet/OPHELIA"]),
        (["richard-iii/SERVANT"], ["othello/SERVANT", "hamlet/SERVANT", "othello/IAGO", "othello/OTHELLO"]),
        (["hamlet/HAMLET"], ["hamlet/OPHELIA"]),
        (["hamlet/GHOST", "macbeth/GHOST", "macbeth/MACBETH", "othello/IAGO"], ["richard-iii/GHOST"]),
    ]
    return function(
        answer,
        share,
        cases,
        mistakes=[
            (lambda training, new: share(new, training), "Of which roles is the share: new or training?"),
            (
                lambda training, new: sum(role in training for role in new) / len(new),
                "Whole ids never meet, as they name the play. Compare what is behind the stroke.",
            ),
            (
                lambda training, new: 100 * share(training, new),
                "These are per cent; the question asks for a share.",
            ),
            (
                lambda training, new: 1 - share(training, new),
                "This is the share whose names are new.",
            ),
            (
                lambda training, new: share(training, new) * len(new),
                "This is how many there are. What share is it?",
            ),
            (
                lambda training, new: share(training, new, part=0),
                "These are the plays. The name is behind the stroke.",
            ),
        ],
        hint="Collect the names of the training roles in a set. How many of the new roles' names are in it?",
    )


@exercise("06.4", stars=3)
def _guess(answer: Any) -> str | None:
    """A function of counts by context and a text: the most frequent character after the longest context."""
    if not callable(answer):
        return f"{answer!r} is no function; give the function itself, without parentheses behind its name."
    for text, word in (
        ("", "Without any text yet, the context is empty; '' is in the counts."),
        ("abracadabra", "A text longer than seven characters counts with its *last* seven."),
        ("the rain", "Of the contexts that were seen, take the longest, not a shorter one."),
        ("rain", "A text of fewer than seven characters is a context as well."),
        ("xyz", "No end of 'xyz' was seen in training. What is left when all characters are dropped?"),
        ("so it", "'so it' was not seen, but an end of it was: drop characters at the *front*."),
    ):
        try:
            given = answer({context: dict(following) for context, following in _COUNTS.items()}, text)
        except Exception as error:  # whatever a student's function raises
            return f"For the text {text!r} your function raises {type(error).__name__}: {error}"
        if given is None or given is ...:
            raise NotFilledInError("the function returns nothing yet: replace `...`, and end with `return`.")
        if given == _right(text, min):
            return f"For the text {text!r} it returns the *least* frequent character of the right context."
        if given != _right(text, max):
            return f"For the text {text!r} it returns {given!r}. {word}"
    return None


# After each context another character is the most frequent, so that a wrong context shows.
_COUNTS: Counts = {
    "": {"e": 9, " ": 4},
    "a": {"n": 5, "b": 2},
    "ra": {"c": 4, "i": 3},
    "acadabr": {"o": 2, "s": 1},
    "cadabra": {"!": 2, "a": 1},
    "abracad": {"z": 3, "q": 2},
    "in": {"g": 6, "t": 2},
    "rain": {"y": 3, "s": 2},
    "e rain": {"w": 3, "k": 1},
    "he rain": {"f": 3, "d": 1},
    "it": {"h": 3, "l": 2},
    "so i": {"m": 3, "p": 2},
    "t": {"j": 3, "x": 2},
}


def _right(text: str, choose: Callable[..., str]) -> str:
    """The most frequent character (with min the least) after the longest context of a text."""
    ends = (text[len(text) - length :] for length in range(min(_LONGEST, len(text)), -1, -1))
    following = next(_COUNTS[end] for end in ends if end in _COUNTS)
    return choose(following, key=following.__getitem__)
