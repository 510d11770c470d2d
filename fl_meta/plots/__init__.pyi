from .arms import arrow_plot
from .centralized import centralized_figure
from .curves import curve_plot
from .evidence import forest_plot
from .examples import glyph_sheet, partition_plot, same_ink_sheet
from .fork import fork_diagram
from .matching import matched_and_best_cartoon
from .personalization import adaptation_curve, gain_histogram, mistakes_html, prediction_sheet
from .prices import price_plot
from .rounds import round_diagram
from .second_stage import second_stage_figure
from .style import PALETTE
from .table_one import paper_table_plot, table_plot

__all__ = [
    "PALETTE",
    "adaptation_curve",
    "arrow_plot",
    "centralized_figure",
    "curve_plot",
    "forest_plot",
    "fork_diagram",
    "gain_histogram",
    "glyph_sheet",
    "matched_and_best_cartoon",
    "mistakes_html",
    "paper_table_plot",
    "partition_plot",
    "prediction_sheet",
    "price_plot",
    "round_diagram",
    "same_ink_sheet",
    "second_stage_figure",
    "table_plot",
]
