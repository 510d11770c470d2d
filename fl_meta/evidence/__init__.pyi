from .crossed_recording import record_design
from .crossed_results import crossed_table, recorded_cells, recorded_designs, recorded_tuning
from .crossed_rules import CLAIM_TESTS, MOST_REPLICATES, differences, is_precise
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
    CrossedResult,
    CrossedTableOneResult,
    HeterogeneityResult,
    Result,
    TuningResult,
)
from .results import load_or_run, own_folder, recorded, recorded_folder
from .statistics import holm
from .table_one_evidence import TableOneFinding, decide_crossed_table_one, table_one_findings
from .table_one_runs import READINGS, recorded_table_one, recorded_tables, table_one_spreads
from .verdicts import Verdict, VerdictTable

__all__ = [
    "CLAIM_TESTS",
    "MOST_REPLICATES",
    "READINGS",
    "BenchmarkResult",
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
    "centralized_table",
    "crossed_mean",
    "crossed_table",
    "decide_claim_one",
    "decide_crossed_table_one",
    "differences",
    "evidence_table",
    "file_name",
    "holm",
    "is_precise",
    "load_or_run",
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
    "table_one_beside_recorded",
    "table_one_findings",
    "table_one_spreads",
    "your_run",
    "your_table_one",
]
