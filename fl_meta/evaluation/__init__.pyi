from .bootstrap import Interval, bootstrap_mean
from .personalization import Evaluation, PersonalizationTable, personalize

__all__ = [
    "Evaluation",
    "Interval",
    "PersonalizationTable",
    "bootstrap_mean",
    "personalize",
]
