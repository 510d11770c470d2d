from .clients import MODELS, PERSON_OF, clients_of, train_validation_held_out
from .crossed_settings import (
    CENTRALIZED,
    CENTRALIZED_SGD,
    CONTINUED,
    DESIGNS,
    FEDAVG,
    FEDSGD,
    REPTILE,
    SERVERS,
    SMALL_E,
    UPDATES,
    Choice,
    Crossed,
    Design,
    cell_seed,
    matched_arms,
    second_stage_arm,
    second_stage_arms,
)
from .crossed_training import Fold
from .expansion import average_gradient, average_gradient_inner, expected_update, measure_expansion
from .first_claim import CLAIM_ONE, expansion_rows, finite_difference_errors, fixed_batches, identity_errors
from .heterogeneity import Gain, gains
from .heterogeneity_settings import RECORDED_HETEROGENEITY, Heterogeneity
from .outcomes import BOTH
from .paper_table_one import PAPER_TABLE_ONE
from .published_scores import PUBLISHED_ROWS, beside_published, protocol_differences
from .published_settings import BENCHMARKS, Benchmark
from .recorded import RECORDED_EXPERIMENTS
from .settings import FIRST_LOOK, RECORDED, Setting, for_profile
from .table_one_settings import TABLE_ONE_DESIGNS, CrossedTableOne, TableOne
from .trajectories import BATCH_SIZE, Snapshot, accuracies, path

__all__ = [
    "BATCH_SIZE",
    "BENCHMARKS",
    "BOTH",
    "CENTRALIZED",
    "CENTRALIZED_SGD",
    "CLAIM_ONE",
    "CONTINUED",
    "DESIGNS",
    "FEDAVG",
    "FEDSGD",
    "FIRST_LOOK",
    "MODELS",
    "PAPER_TABLE_ONE",
    "PERSON_OF",
    "PUBLISHED_ROWS",
    "RECORDED",
    "RECORDED_EXPERIMENTS",
    "RECORDED_HETEROGENEITY",
    "REPTILE",
    "SERVERS",
    "SMALL_E",
    "TABLE_ONE_DESIGNS",
    "UPDATES",
    "Benchmark",
    "Choice",
    "Crossed",
    "CrossedTableOne",
    "Design",
    "Fold",
    "Gain",
    "Heterogeneity",
    "Setting",
    "Snapshot",
    "TableOne",
    "accuracies",
    "average_gradient",
    "average_gradient_inner",
    "beside_published",
    "cell_seed",
    "clients_of",
    "expansion_rows",
    "expected_update",
    "finite_difference_errors",
    "fixed_batches",
    "for_profile",
    "gains",
    "identity_errors",
    "matched_arms",
    "measure_expansion",
    "path",
    "protocol_differences",
    "second_stage_arm",
    "second_stage_arms",
    "train_validation_held_out",
]
