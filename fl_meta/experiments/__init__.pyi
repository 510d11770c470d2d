from .clients import MODELS, TOGETHER, clients_of, parts
from .comparison_settings import (
    COMPARISON,
    CONTINUED,
    CONTINUED_GRADIENTS,
    FEDSGD,
    LOCAL_ONLY,
    RECORDED_COMPARISON,
    REPTILE,
    SMALL_E,
    Comparison,
)
from .expansion import average_gradient, average_gradient_inner, expected_update, measure_expansion
from .first_claim import CLAIM_ONE, expansion_rows, finite_difference_errors, fixed_batches, identity_errors
from .published_scores import ROWS, beside_published, differences
from .published_settings import BENCHMARKS
from .settings import FIRST_LOOK, RECORDED, Setting, for_profile
from .table_one import PAPER_TABLE_ONE, RECORDED_TABLE_ONE, TABLE_ONE, TableOne
from .trajectories import BATCH, Snapshot, accuracies, path

__all__ = [
    "BATCH",
    "BENCHMARKS",
    "CLAIM_ONE",
    "COMPARISON",
    "CONTINUED",
    "CONTINUED_GRADIENTS",
    "FEDSGD",
    "FIRST_LOOK",
    "LOCAL_ONLY",
    "MODELS",
    "PAPER_TABLE_ONE",
    "RECORDED",
    "RECORDED_COMPARISON",
    "RECORDED_TABLE_ONE",
    "REPTILE",
    "ROWS",
    "SMALL_E",
    "TABLE_ONE",
    "TOGETHER",
    "Comparison",
    "Setting",
    "Snapshot",
    "TableOne",
    "accuracies",
    "average_gradient",
    "average_gradient_inner",
    "beside_published",
    "clients_of",
    "differences",
    "expansion_rows",
    "expected_update",
    "finite_difference_errors",
    "fixed_batches",
    "for_profile",
    "identity_errors",
    "measure_expansion",
    "parts",
    "path",
]
