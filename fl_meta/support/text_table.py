"""Numbers and tables as text, for a terminal and for Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def aligned(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Rows under a head, in columns as wide as their longest entry.

    Example:
        >>> print(aligned(["claim", "effect"], [["3-best", "+1.2"]]))
        claim   effect
        ──────  ──────
        3-best  +1.2
    """
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    lines = [head, ["─" * width for width in widths], *rows]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown.

    Example:
        >>> print(markdown_table(["claim", "effect"], [["3-best", "+1.2"]]))
        | claim | effect |
        | --- | --- |
        | 3-best | +1.2 |
    """
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def signed(number: float, digits: int = 1) -> str:
    """A number with its sign, and without one if it is rounded to 0.

    Example:
        >>> signed(2.449), signed(-0.04), signed(-0.04, digits=2)
        ('+2.4', '0.0', '−0.04')
    """
    text = f"{number:+.{digits}f}".replace("-", "−")
    return text if any(digit in text for digit in "123456789") else text[1:]
