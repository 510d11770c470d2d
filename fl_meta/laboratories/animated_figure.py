"""Figures that can be redrawn quickly: only the artists that move are drawn anew."""

from __future__ import annotations

from collections.abc import Iterable
from io import BytesIO
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image


class _Layers(FigureCanvasAgg):
    """A canvas that draws the still artists once, and the animated ones above them each time."""

    def __init__(self, figure: Figure) -> None:
        figure.set_dpi(96)
        super().__init__(figure)
        self.draw()  # type: ignore[no-untyped-call]
        self._still = self.copy_from_bbox(figure.bbox)  # type: ignore[no-untyped-call]
        self._moving = sorted(figure.findobj(lambda artist: artist.get_animated()), key=Artist.get_zorder)

    def pixels(self) -> Any:
        """RGBA [height, width, 4]."""
        self.restore_region(self._still)  # type: ignore[no-untyped-call]
        for artist in self._moving:
            self.figure.draw_artist(artist)
        return np.asarray(self.buffer_rgba())  # type: ignore[no-untyped-call]


def png(figure: Figure) -> bytes:
    """Render a figure as PNG; after the first call only its animated artists are drawn again.

    The image has 256 colours, which takes a third to a half of the bytes of full colour.
    """
    canvas = figure.canvas if isinstance(figure.canvas, _Layers) else _Layers(figure)
    image = Image.fromarray(canvas.pixels()).convert("RGB")
    buffer = BytesIO()
    # Median cut gives a small mark the colour of a large one, and octree leaves nothing pure white.
    image.quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(buffer, "png")
    return buffer.getvalue()


def animate(*groups: Iterable[Artist]) -> None:
    """Mark the artists that `png` draws anew each time; it draws all others once."""
    for artist in (artist for group in groups for artist in group):
        artist.set_animated(True)
