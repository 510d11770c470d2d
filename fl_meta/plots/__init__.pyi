from .arms import arrow_plot
from .evidence import forest_plot
from .examples import glyph_sheet, partition_plot, same_ink_sheet
from .personalization import adaptation_curve, gain_histogram, mistakes_html, prediction_sheet
from .results import table_plot
from .rounds import round_diagram
from .second_stage import second_stage_figure
from .style import PALETTE

__all__ = [
    "PALETTE",
    "adaptation_curve",
    "arrow_plot",
    "forest_plot",
    "gain_histogram",
    "glyph_sheet",
    "mistakes_html",
    "partition_plot",
    "prediction_sheet",
    "round_diagram",
    "same_ink_sheet",
    "second_stage_figure",
    "table_plot",
]
