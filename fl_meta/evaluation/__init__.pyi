from .bootstrap import Interval, bootstrap_mean
from .n_grams import n_gram_accuracies
from .personalization import Evaluation, PersonalizationTable, personalize

__all__ = [
    "Evaluation",
    "Interval",
    "PersonalizationTable",
    "bootstrap_mean",
    "n_gram_accuracies",
    "personalize",
]
