"""Formulas in Markdown as pictures, for pages that load nothing from the network."""

from __future__ import annotations

import re
from base64 import b64encode
from functools import cache
from html import escape
from io import BytesIO

from matplotlib.font_manager import FontProperties
from matplotlib.mathtext import math_to_image

FORMULA = re.compile(
    r"```.*?```|`[^`\n]*`|\$\$(?P<shown>.+?)\$\$|(?<![\\$])\$(?P<inline>[^$\n]+?)\$", re.DOTALL
)
"""Code, which stays as it is, or a formula: `$$…$$` on lines of its own, or `$…$` within one."""

_SIZE = 11.0  # of the letters, in points
_SHOWN_SIZE = 13.0


def formulas(text: str) -> list[str]:
    r"""The formulas in a Markdown text, without their dollar signs.

    Example:
        >>> formulas(r"a step $\theta_1$ costs `$5`")
        ['\\theta_1']
    """
    return [found["shown"] or found["inline"] for found in FORMULA.finditer(text) if found[0][0] == "$"]


def with_pictures(text: str) -> str:
    r"""A Markdown text in which each formula is a picture that says its LaTeX.

    matplotlib draws them, so they are limited to its `mathtext`: no `\begin{aligned}`, for example.

    Raises:
        ValueError: if a formula has something that `mathtext` does not know.

    Example:
        >>> with_pictures(r"a step $\theta_1$").startswith('a step <img alt="\\theta_1" style=')
        True
    """
    return FORMULA.sub(_picture, text)


def _picture(found: re.Match[str]) -> str:
    if found["shown"]:
        return f'<p style="text-align:center">{_drawn(found["shown"].strip(), _SHOWN_SIZE)}</p>'
    return _drawn(found["inline"], _SIZE) if found["inline"] else found[0]


@cache
def _drawn(formula: str, size: float) -> str:
    buffer = BytesIO()
    one_line = " ".join(formula.split())
    depth = math_to_image(f"${one_line}$", buffer, FontProperties(size=size), dpi=72, format="svg")
    data = b64encode(buffer.getvalue()).decode()
    style = f"vertical-align:-{depth:.1f}pt"
    return f'<img alt="{escape(one_line)}" style="{style}" src="data:image/svg+xml;base64,{data}">'
