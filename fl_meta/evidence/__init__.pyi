from .comparison_verdicts import (
    CENTRALIZED,
    CONTRASTS,
    PLANNED_SPREAD,
    Contrast,
    centralized,
    client_differences,
    decide_comparison,
    decide_recorded,
    in_points,
    not_run,
)
from .crossed_statistics import CrossedEffect, crossed_mean
from .first_claim_verdicts import decide_claim_one
from .recorded_table import recorded_table
from .result_types import (
    BenchmarkResult,
    ComparisonResult,
    CrossedTableOneResult,
    HeterogeneityResult,
    Result,
    TableOneResult,
)
from .results import ResultError, file_name, load_or_run, own_folder, read_result, recorded
from .statistics import holm, sign_flip_p, smallest_effect
from .table_one_evidence import TableOneFinding, decide_crossed_table_one
from .table_one_runs import table_one_spreads
from .table_one_verdicts import decide_table_one, table_one_cells
from .verdicts import Verdict, VerdictTable

__all__ = [
    "CENTRALIZED",
    "CONTRASTS",
    "PLANNED_SPREAD",
    "BenchmarkResult",
    "ComparisonResult",
    "Contrast",
    "CrossedEffect",
    "CrossedTableOneResult",
    "HeterogeneityResult",
    "Result",
    "ResultError",
    "TableOneFinding",
    "TableOneResult",
    "Verdict",
    "VerdictTable",
    "centralized",
    "client_differences",
    "crossed_mean",
    "decide_claim_one",
    "decide_comparison",
    "decide_crossed_table_one",
    "decide_recorded",
    "decide_table_one",
    "file_name",
    "holm",
    "in_points",
    "load_or_run",
    "not_run",
    "own_folder",
    "read_result",
    "recorded",
    "recorded_table",
    "sign_flip_p",
    "smallest_effect",
    "table_one_cells",
    "table_one_spreads",
]
