"""The experiments whose results the repository keeps."""

from __future__ import annotations

from fl_meta.experiments.crossed_settings import DESIGNS, Design
from fl_meta.experiments.heterogeneity_settings import RECORDED_HETEROGENEITY, Heterogeneity
from fl_meta.experiments.table_one_settings import TABLE_ONE_DESIGNS, CrossedTableOne

RECORDED_EXPERIMENTS: dict[str, CrossedTableOne | Heterogeneity | Design] = {
    **{f"table_one-{name}": design for name, design in TABLE_ONE_DESIGNS.items()},
    **{f"crossed-{name}": design for name, design in DESIGNS.items()},
    "heterogeneity-writers": RECORDED_HETEROGENEITY,
}
"""Configurations by the name that `fl-meta record` knows them by. Importing them does not import torch."""
