from .client import held_out_study, meet
from .mixing import PRESETS, small_writers, train_mix
from .panel import Panel
from .panels import federation_in_the_plane, heterogeneity_panel, meet_a_client, mix_your_own
from .plane import ROWS, SERVERS, quadratics, train_in_plane
from .recorded_claims import claim_explorer

__all__ = [
    "PRESETS",
    "ROWS",
    "SERVERS",
    "Panel",
    "claim_explorer",
    "federation_in_the_plane",
    "held_out_study",
    "heterogeneity_panel",
    "meet",
    "meet_a_client",
    "mix_your_own",
    "quadratics",
    "small_writers",
    "train_in_plane",
    "train_mix",
]
