"""Figures."""

from fl_meta.plots.examples import (
    PALETTE,
    adaptation_curve,
    gain_histogram,
    glyph_sheet,
    mistakes_html,
    partition_plot,
    prediction_sheet,
    same_ink_sheet,
)
from fl_meta.plots.results import (
    PAPER_TABLE_ONE,
    adaptation_plot,
    arrow_plot,
    course_plot,
    effect_plot,
    gain_plot,
    plane_plot,
    table_plot,
)

__all__ = [
    "PALETTE",
    "PAPER_TABLE_ONE",
    "adaptation_curve",
    "adaptation_plot",
    "arrow_plot",
    "course_plot",
    "effect_plot",
    "gain_histogram",
    "gain_plot",
    "glyph_sheet",
    "mistakes_html",
    "partition_plot",
    "plane_plot",
    "prediction_sheet",
    "same_ink_sheet",
    "table_plot",
]
