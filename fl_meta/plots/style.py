"""Colours and markers that all figures share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import cycle
from typing import Any

import seaborn

# Colour-blind readers can tell these apart; marks and underlines repeat what the colours say.
PALETTE = seaborn.color_palette("colorblind")
MARKERS = "osD^vPX"


def styled(names: Sequence[str]) -> Iterator[tuple[str, Any, str]]:
    """Each name with a colour and a marker of its own.

    Example:
        >>> [(name, marker) for name, _, marker in styled(["FedAvg", "Reptile"])]
        [('FedAvg', 'o'), ('Reptile', 's')]
    """
    return zip(names, cycle(PALETTE), cycle(MARKERS), strict=False)
