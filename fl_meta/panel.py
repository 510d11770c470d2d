"""Controls above a picture that follows them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any

import ipywidgets  # type: ignore[import-untyped]
from matplotlib.figure import Figure

from fl_meta.playground_plots import png


class Panel(ipywidgets.VBox):  # type: ignore[misc]
    """Controls, the line of code that brings them back, a picture and what it says in words.

    A callback that raises shows its traceback below; in plain Python it raises.

    Attributes:
        controls: by the name of the argument that they stand for.
        buttons: set several controls at once, by what they say; "reset" sets all as they were at first.
        picture: PNG of `figure`.
        figure: the last one drawn.
        words: what the picture says, as HTML.
    """

    def __init__(
        self,
        name: str,
        controls: Mapping[str, ipywidgets.ValueWidget],
        draw: Callable[..., tuple[Figure, str]],
        height: int,
        *,
        presets: Mapping[str, Mapping[str, Any]] | None = None,
        fixed: str = "",
    ) -> None:
        """Draw for the first time.

        Args:
            name: of the function that makes this panel.
            controls: by the name of the argument that they stand for.
            draw: from the controls' values to a figure, and HTML below it.
            height: of the picture, in pixels.
            presets: values for some controls, by what the button says.
            fixed: code of the arguments that no control stands for.
        """
        self.controls, self._name, self._draw, self._fixed = dict(controls), name, draw, fixed
        first = {argument: control.value for argument, control in controls.items()}
        everything = {**(presets or {}), "reset": first}
        self.buttons = {text: ipywidgets.Button(description=text) for text in everything}
        for text, values in everything.items():
            self.buttons[text].on_click(lambda _, values=values: self.set(**values))
        layout = ipywidgets.Layout(height=f"{height}px", width="100%", object_fit="scale-down")
        self.picture = ipywidgets.Image(format="png", layout=layout)
        self.words, self._code = ipywidgets.HTML(), ipywidgets.HTML()
        # One redrawing for a button that moves several controls: they are silent, then this one changes.
        self._silent, self._pushes = False, ipywidgets.IntText()
        errors = ipywidgets.interactive_output(self._follow, {**controls, "_": self._pushes})
        wrapped = ipywidgets.Layout(flex_flow="row wrap")
        super().__init__(
            [
                ipywidgets.Box(list(controls.values()), layout=wrapped),
                ipywidgets.Box(list(self.buttons.values()), layout=wrapped),
                self._code,
                self.picture,
                self.words,
                errors,
            ]
        )

    def set(self, **values: Any) -> None:
        """Move several controls and draw once."""
        self._silent = True
        try:
            for argument, value in values.items():
                self.controls[argument].value = value
        finally:
            self._silent = False
        self._pushes.value += 1

    @property
    def state(self) -> str:
        """Code that makes this panel with its controls as they are."""
        values = ((argument, control.value) for argument, control in self.controls.items())
        given = [f"{name}={round(v, 6) if isinstance(v, float) else v!r}" for name, v in values]
        return f"widgets.{self._name}({', '.join([self._fixed, *given] if self._fixed else given)})"

    def _follow(self, _: int, **values: Any) -> None:
        if not self._silent:
            self.figure, self.words.value = self._draw(**values)
            self.picture.value = png(self.figure)
            self._code.value = f"these settings: <code>{escape(self.state)}</code>"


def slider(label: str, value: float, low: float, high: float, step: float) -> Any:
    """A slider for whole numbers if `step` is one.

    Raises:
        ValueError: if the value is out of bounds; ipywidgets would move it without a word.
    """
    if not low <= value <= high:
        raise ValueError(f"{label}: {value} is out of bounds; choose a number from {low:g} to {high:g}")
    kind = ipywidgets.IntSlider if isinstance(step, int) else ipywidgets.FloatSlider
    return kind(value, min=low, max=high, step=step, continuous_update=False, **_look(label))


def choice(label: str, value: Any, options: Sequence[Any]) -> ipywidgets.Dropdown:
    """A drop-down list.

    Raises:
        ValueError: if the value is none of the options.
    """
    if value not in options:
        raise ValueError(f"{label}: {value!r} is unknown; choose one of {', '.join(map(repr, options))}")
    return ipywidgets.Dropdown(value=value, options=options, **_look(label))


def _look(label: str) -> dict[str, Any]:
    width = {"description_width": "150px"}
    return {"description": label, "style": width, "layout": ipywidgets.Layout(width="400px")}
