from .artificial_clients import artificial_clients
from .bowls import Bowls, steep_and_flat
from .bowls_picture import two_bowls
from .client import adapt_client, held_out_study
from .client_picture import meet_a_client
from .evidence_explorer import evidence_explorer
from .fork import distances, mean_optima, train_past_fork
from .fork_picture import after_the_fork
from .heterogeneity_picture import heterogeneity_panel
from .matching import TARGETS, matched_everywhere, personalized_at
from .matching_picture import match_elsewhere
from .mixing import PRESETS, small_writers, train_mix
from .mixing_picture import mix_your_own
from .panel import Panel
from .partition_picture import who_has_what
from .plane import PLANE_ALGORITHMS, SERVERS, quadratics, train_in_plane
from .plane_picture import federation_in_the_plane

__all__ = [
    "PLANE_ALGORITHMS",
    "PRESETS",
    "SERVERS",
    "TARGETS",
    "Bowls",
    "Panel",
    "adapt_client",
    "after_the_fork",
    "artificial_clients",
    "distances",
    "evidence_explorer",
    "federation_in_the_plane",
    "held_out_study",
    "heterogeneity_panel",
    "match_elsewhere",
    "matched_everywhere",
    "mean_optima",
    "meet_a_client",
    "mix_your_own",
    "personalized_at",
    "quadratics",
    "small_writers",
    "steep_and_flat",
    "train_in_plane",
    "train_mix",
    "train_past_fork",
    "two_bowls",
    "who_has_what",
]
