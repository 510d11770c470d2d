"""Colours that all figures share."""

from __future__ import annotations

import seaborn

# Told apart by colour-blind readers; marks and underlines say the same without colour.
PALETTE = seaborn.color_palette("colorblind")
