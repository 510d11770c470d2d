from .batches import BatchPlan, batch_plan, sample_clients
from .encoding import BLANK, CHARACTERS, VOCABULARY, decode, encode
from .federated import PADDING, Client, FederatedDataset
from .loading import LOADERS, load_dataset
from .partition import by_labels_dirichlet, pachinko
from .published.shakespeare import line_sheet
from .published.tensorflow_federated import play_of
from .synthetic.writers import load_writers

__all__ = [
    "BLANK",
    "CHARACTERS",
    "LOADERS",
    "PADDING",
    "VOCABULARY",
    "BatchPlan",
    "Client",
    "FederatedDataset",
    "batch_plan",
    "by_labels_dirichlet",
    "decode",
    "encode",
    "line_sheet",
    "load_dataset",
    "load_writers",
    "pachinko",
    "play_of",
    "sample_clients",
]
