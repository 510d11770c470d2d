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
from .crossed_recording import record_design
from .crossed_results import crossed_table, recorded_cells, recorded_designs, recorded_tuning
from .crossed_rules import CLAIM_TESTS, differences, is_precise
from .crossed_statistics import CrossedEffect, crossed_mean
from .crossed_tables import (
    arm_table,
    as_verdicts,
    cause_table,
    centralized_table,
    evidence_table,
    rival_table,
)
from .crossed_words import sentences
from .first_claim_verdicts import decide_claim_one
from .own_run import YourRun, beside_recorded, your_run
from .own_table_one import YourTableOne, table_one_beside_recorded, your_table_one
from .recorded_table import recorded_table
from .result_files import ResultError, file_name, read_result
from .result_types import (
    BenchmarkResult,
    ComparisonResult,
    CrossedResult,
    CrossedTableOneResult,
    HeterogeneityResult,
    Result,
    TuningResult,
)
from .results import load_or_run, own_folder, recorded, recorded_folder
from .statistics import holm, sign_flip_p, smallest_effect
from .table_one_evidence import TableOneFinding, decide_crossed_table_one, table_one_findings
from .table_one_runs import READINGS, recorded_table_one, recorded_tables, table_one_spreads
from .verdicts import Verdict, VerdictTable

__all__ = [
    "CENTRALIZED",
    "CLAIM_TESTS",
    "CONTRASTS",
    "PLANNED_SPREAD",
    "READINGS",
    "BenchmarkResult",
    "ComparisonResult",
    "Contrast",
    "CrossedEffect",
    "CrossedResult",
    "CrossedTableOneResult",
    "HeterogeneityResult",
    "Result",
    "ResultError",
    "TableOneFinding",
    "TuningResult",
    "Verdict",
    "VerdictTable",
    "YourRun",
    "YourTableOne",
    "arm_table",
    "as_verdicts",
    "beside_recorded",
    "cause_table",
    "centralized",
    "centralized_table",
    "client_differences",
    "crossed_mean",
    "crossed_table",
    "decide_claim_one",
    "decide_comparison",
    "decide_crossed_table_one",
    "decide_recorded",
    "differences",
    "evidence_table",
    "file_name",
    "holm",
    "in_points",
    "is_precise",
    "load_or_run",
    "not_run",
    "own_folder",
    "read_result",
    "record_design",
    "recorded",
    "recorded_cells",
    "recorded_designs",
    "recorded_folder",
    "recorded_table",
    "recorded_table_one",
    "recorded_tables",
    "recorded_tuning",
    "rival_table",
    "sentences",
    "sign_flip_p",
    "smallest_effect",
    "table_one_beside_recorded",
    "table_one_findings",
    "table_one_spreads",
    "your_run",
    "your_table_one",
]
