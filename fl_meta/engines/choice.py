"""The engines by name."""

from __future__ import annotations

from fl_meta.engines.interface import Engine
from fl_meta.engines.loop import LoopEngine
from fl_meta.engines.stacked.engine import StackedEngine

ENGINES: dict[str, Engine] = {"stacked": StackedEngine(), "loop": LoopEngine()}


def engine_named(name: str | Engine) -> Engine:
    """The engine of that name; an engine itself, such as `StackedEngine(workers=1)`, is taken as it is.

    Raises:
        ValueError: if there is none; the message lists those there are.
    """
    if not isinstance(name, str):
        return name
    if name not in ENGINES:
        raise ValueError(f"engine={name!r} is unknown; choose one of {', '.join(map(repr, ENGINES))}")
    return ENGINES[name]
