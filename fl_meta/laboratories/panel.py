"""An interactive panel for notebooks: controls, and a picture that follows them."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping, Sequence
from html import escape, unescape
from threading import RLock
from typing import Any, TypeAlias

import ipywidgets  # type: ignore[import-untyped]
from matplotlib.figure import Figure

from fl_meta.laboratories.animated_figure import png
from fl_meta.laboratories.background_work import Work

Drawn: TypeAlias = tuple[Figure, str] | tuple[Figure, str, str]
"""A figure, the words below it and, for some panels, a page of text beside it, both as HTML."""

# The first rule gives text in the panel the line spacing of the surrounding page, not that of controls.
# The script stops JupyterLab from taking arrow keys (and "d, d", which deletes a cell) before a slider or a
# list receives them: JupyterLab skips its shortcuts where it finds this attribute, which widgets cannot set
# from Python. Ctrl+S still saves.
_ON_THE_PAGE = """<style>.fl-meta-panel .widget-html-content { line-height: 1.5; }</style>
<script>
window.flMetaKeys ??= window.addEventListener("keydown", event => {
    if (event.target.closest?.(".fl-meta-panel"))
        event.target.toggleAttribute("data-lm-suppress-shortcuts", !event.ctrlKey && !event.metaKey);
}, true) ?? true;
</script>"""


class Panel(ipywidgets.VBox):  # type: ignore[misc]
    """Controls above a picture, the picture in words, and the code that recreates the current settings.

    An exception in a callback shows its traceback below the controls; in plain Python it propagates.

    Attributes:
        controls: one widget per argument, by the argument's name.
        buttons: buttons that set several controls at once, by their text; "reset" restores the first values.
        picture: `figure` as PNG, at its own size or as wide as the page allows.
        text: the page of text beside the picture, as HTML; empty in most panels.
        figure: the figure drawn last.
        words: what the picture says, as HTML.
        code: the line of code that recreates the panel, as HTML.
        errors: tracebacks raised while drawing.
        work: the computation that takes seconds, or None.

    Example:
        >>> def draw(rate):
        ...     figure = Figure((6, 3))
        ...     figure.add_subplot().plot([0, rate])
        ...     return figure, f"the rate is {rate}"
        >>> panel = Panel("toy", {"rate": slider("rate", 0.5, 0.0, 1.0, 0.1)}, draw)  # doctest: +SKIP
        >>> panel.set(rate=0.8)  # doctest: +SKIP
    """

    work: Work | None = None

    def __init__(
        self,
        name: str,
        controls: Mapping[str, ipywidgets.ValueWidget],
        draw: Callable[..., Drawn],
        *,
        presets: Mapping[str, Mapping[str, Any]] | None = None,
        fixed: str = "",
        work: tuple[str, Callable[..., Iterator[float]]] | None = None,
    ) -> None:
        """Lay out the panel and draw it for the first time.

        Args:
            name: name of the function in `fl_meta.laboratories` that makes this panel.
            controls: one widget per argument of `draw`, by the argument's name.
            draw: maps the controls' values to a figure, whose size never changes, the HTML below it, and
                optionally the HTML beside it.
            presets: values for some of the controls, by the text of the button that sets them.
            fixed: code for the arguments that have no control.
            work: a computation that takes seconds: the text of its button, and a function from the controls'
                values to an iterator that often yields the share done so far. The panel is redrawn when the
                iterator ends.
        """
        self.controls, self._name, self._draw, self._fixed = dict(controls), name, draw, fixed
        everything = {**(presets or {}), "reset": self._values}
        self.buttons = {text: ipywidgets.Button(description=text) for text in everything}
        for text, values in everything.items():
            self.buttons[text].on_click(lambda _, values=values: self.set(**values))
        layout = ipywidgets.Layout(max_width="calc(100% - 4px)", height="auto")
        self.picture = ipywidgets.Image(format="png", layout=layout)
        self.words, self.code = ipywidgets.HTML(), ipywidgets.HTML()
        self.text = ipywidgets.HTML()
        # A button that moves several controls draws once: they are silenced, then this counter changes.
        self._silent, self._pushes = False, ipywidgets.IntText()
        self._drawing = RLock()  # the thread of the work draws, too, when it ends
        # Registered before `_follow`, so that any move of a control clears an old traceback.
        for control in (*controls.values(), self._pushes):
            control.observe(self._forget_errors, "value")
        self.errors = ipywidgets.interactive_output(self._follow, {**controls, "_": self._pushes})
        if work:
            text, compute = work
            self.work = Work(
                text, begin=lambda: compute(**self._values), end=lambda: self._follow(0, **self._values)
            )
            forget = self.work.forget
            self.buttons["reset"].on_click(lambda _: forget())
        wrapped = ipywidgets.Layout(flex_flow="row wrap")
        super().__init__(
            [
                ipywidgets.Box(list(controls.values()), layout=wrapped),
                ipywidgets.Box([*self.buttons.values(), *filter(None, [self.work])], layout=wrapped),
                self.errors,
                *([self.work.errors] if self.work else []),
                ipywidgets.Box(
                    [self.text, self.picture],
                    layout=ipywidgets.Layout(flex_flow="row wrap", align_items="flex-start"),
                ),
                self.words,
                self.code,
                _on_the_page(),
            ]
        )
        # _ON_THE_PAGE uses the first name, the browser tests use both.
        self.add_class("fl-meta-panel")
        self.code.add_class("fl-meta-code")

    def set(self, **values: Any) -> None:
        """Move several controls, by the argument's name, and draw once."""
        self._silent = True
        try:
            for argument, value in values.items():
                self.controls[argument].value = value
        finally:
            self._silent = False
        self._pushes.value += 1

    def close(self) -> None:
        """Stop the computation, if one is running, and close the panel."""
        if self.work:
            self.work.stop()
        super().close()

    @property
    def state(self) -> str:
        """Code that recreates this panel with its current settings."""
        values = self._values.items()
        given = [f"{name}={round(v, 6) if isinstance(v, float) else v!r}" for name, v in values]
        return f"laboratories.{self._name}({', '.join([self._fixed, *given] if self._fixed else given)})"

    def _follow(self, _: int, **values: Any) -> None:
        with self._drawing:
            if not self._silent:
                drawn: Drawn = self._draw(**values)
                self.figure, self.words.value = drawn[:2]
                self.text.value = drawn[2] if len(drawn) == 3 else ""
                self.picture.value = png(self.figure)
                # With both, the browser reserves the height before the picture arrives: nothing below jumps.
                self.picture.width, self.picture.height = map(str, self.figure.canvas.get_width_height())
                self.code.value = f"these settings: <code>{escape(self.state)}</code>"

    def _forget_errors(self, _: Any) -> None:
        self.errors.outputs = ()

    def _repr_mimebundle_(self, **options: Any) -> tuple[dict[str, str], dict[str, Any]]:
        """Add a still of the panel for saved notebooks shown without widgets, as on GitHub.

        The words below the picture are its alternative text.
        """
        bundle: dict[str, str] = super()._repr_mimebundle_(**options)
        data = b64encode(self.picture.value).decode()
        if self.text.value:
            image = f'<img alt="described below" src="data:image/png;base64,{data}">'
            still = {"text/html": f"{self.text.value}{image}<div>{self.words.value}</div>"}
        else:
            still = {"image/png": data}
        described = {"image/png": {"alt": _plain(self.words.value)}}
        return bundle | still | {"text/plain": self.state}, described

    @property
    def _values(self) -> dict[str, Any]:
        return {argument: control.value for argument, control in self.controls.items()}


def _plain(html: str) -> str:
    """The text of a few lines of HTML; only what begins on a line or in a cell of its own is set apart."""
    apart = re.sub(r"<(?=/?(?:br|p|div|t[dhr])\b)", " <", html)
    return " ".join(unescape(re.sub("<[^>]*>", "", apart)).split())


def _on_the_page() -> ipywidgets.Output:
    shown = {"output_type": "display_data", "data": {"text/html": _ON_THE_PAGE}, "metadata": {}}
    return ipywidgets.Output(outputs=(shown,), layout=ipywidgets.Layout(display="none"))


def slider(label: str, value: float, low: float, high: float, step: float) -> Any:
    """A slider; for whole numbers if `step` is an int."""
    if not low <= value <= high:
        raise ValueError(f"{label}: {value} is out of bounds; choose a number from {low:g} to {high:g}")
    kind = ipywidgets.IntSlider if isinstance(step, int) else ipywidgets.FloatSlider
    return kind(value, min=low, max=high, step=step, continuous_update=False, **_look(label))


def choice(label: str, value: Any, options: Sequence[Any]) -> ipywidgets.Dropdown:
    """A drop-down list."""
    _check_option(label, value, options)
    return ipywidgets.Dropdown(value=value, options=options, **_look(label))


def stops(label: str, value: Any, options: Sequence[Any]) -> ipywidgets.SelectionSlider:
    """A slider that takes only these values."""
    _check_option(label, value, options)
    return ipywidgets.SelectionSlider(value=value, options=options, continuous_update=False, **_look(label))


def _check_option(label: str, value: Any, options: Sequence[Any]) -> None:
    if value not in options:
        raise ValueError(f"{label}: {value!r} is unknown; choose one of {', '.join(map(repr, options))}")


def _look(label: str) -> dict[str, Any]:
    width = {"description_width": "165px"}
    return {
        "description": label,
        "tooltip": label,
        "style": width,
        "layout": ipywidgets.Layout(width="400px"),
    }
