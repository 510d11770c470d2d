"""Colours that all figures share."""

from __future__ import annotations

import seaborn

# Colour-blind readers can tell these apart; marks and underlines repeat what the colours say.
PALETTE = seaborn.color_palette("colorblind")
