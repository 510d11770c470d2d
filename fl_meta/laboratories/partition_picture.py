"""Who has which labels: writers beside artificial clients of a Dirichlet partition, as picture and panel."""

from __future__ import annotations

import numpy as np
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from numpy.typing import NDArray

from fl_meta.laboratories.animated_figure import animate
from fl_meta.laboratories.artificial_clients import ALPHAS, CLIENTS, artificial_clients, few_writers
from fl_meta.laboratories.panel import Panel, stops

_DARKEST = 0.3  # share of a client's examples from which on a label is drawn in the darkest shade


def who_has_what(*, alpha: float = 0.4) -> Panel:
    """Synthetic writers and artificial clients with the same examples: each label's share in each client.

    Args:
        alpha: concentration of the Dirichlet partition, one of `ALPHAS`; the smaller, the fewer labels a
            client has.

    Raises:
        ValueError: if `alpha` is not one of `ALPHAS`.

    Example:
        >>> panel = who_has_what(alpha=0.04)  # doctest: +SKIP
    """
    controls = {"alpha": stops("α of the partition", alpha, ALPHAS)}
    return Panel("who_has_what", controls, PartitionPicture().show)


class PartitionPicture:
    """A column per client, a row per label: the writers on the left, the artificial clients on the right.

    Both sides have the same labels in the same order and the same shades. The figure is made once; `show`
    only changes the right side.
    """

    def __init__(self) -> None:
        writers = few_writers()
        self._of_writers = writers.class_counts()
        self._figure = Figure(figsize=(9.6, 5.4))
        left, right = self._figure.subplots(1, 2, sharey=True)
        self._figure.subplots_adjust(0.07, 0.07, 0.9, 0.93, 0.05)
        look = {
            "cmap": "Blues",
            "norm": PowerNorm(0.5, vmin=0, vmax=_DARKEST),
            "aspect": "auto",
            "interpolation": "nearest",
        }
        left.imshow(_shares(self._of_writers), **look)
        self._image = right.imshow(np.zeros_like(self._of_writers.T, dtype=float), **look)
        left.set_title(f"{writers.label}: who wrote what", fontsize=12)
        self._title = right.set_title("", fontsize=12)
        labels = range(0, writers.num_classes, 4)
        left.set_yticks(labels, [writers.class_names[label] for label in labels])
        left.set_ylabel("label", fontsize=11)
        for axes in (left, right):
            axes.set_xticks([])
            axes.set_xlabel(f"{CLIENTS} clients, by their most frequent label", fontsize=11)
        bar = self._figure.colorbar(
            self._image, cax=self._figure.add_axes((0.92, 0.07, 0.015, 0.86)), extend="max"
        )
        bar.set_label("share of the client's examples", fontsize=11)
        animate([self._image, self._title], right.spines.values())

    def show(self, alpha: float) -> tuple[Figure, str]:
        """The figure for a concentration, and its words as HTML."""
        counts = artificial_clients(alpha)
        self._image.set_data(_shares(counts))
        self._title.set_text(f"the same characters, divided by labels: α = {alpha:g}")
        words = [
            f"{name} has {np.median((of > 0).sum(1)):.0f} of {of.shape[1]} labels (median); always guessing "
            f"its most frequent one is right for {100 * (of.max(1) / of.sum(1)).mean():.0f} % of its examples"
            for name, of in (("A writer", self._of_writers), ("an artificial client", counts[counts.any(1)]))
        ]
        return self._figure, "; ".join(words) + "."


def _shares(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Shares [labels, clients] of counts [clients, labels], clients by their most frequent label."""
    shares: NDArray[np.float64] = counts / counts.sum(axis=1, keepdims=True).clip(min=1)
    return shares[np.lexsort((-shares.max(axis=1), shares.argmax(axis=1)))].T
