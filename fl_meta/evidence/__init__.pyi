from .comparison_verdicts import (
    CENTRALIZED,
    CONTRASTS,
    PLANNED_SPREAD,
    centralized,
    decide_comparison,
    decide_recorded,
    differences,
    in_points,
    measured,
    model_named,
    not_run,
)
from .first_claim_verdicts import decide_claim_one
from .results import ResultError, file_name, label_of, load_or_run, own_folder, read_result, recorded
from .statistics import holm, sign_flip_p, smallest_effect
from .table_one_verdicts import cells, decide_table_one
from .verdicts import Verdict, VerdictTable

__all__ = [
    "CENTRALIZED",
    "CONTRASTS",
    "PLANNED_SPREAD",
    "ResultError",
    "Verdict",
    "VerdictTable",
    "cells",
    "centralized",
    "decide_claim_one",
    "decide_comparison",
    "decide_recorded",
    "decide_table_one",
    "differences",
    "file_name",
    "holm",
    "in_points",
    "label_of",
    "load_or_run",
    "measured",
    "model_named",
    "not_run",
    "own_folder",
    "read_result",
    "recorded",
    "sign_flip_p",
    "smallest_effect",
]
