"""Controls above a picture that follows them."""

from __future__ import annotations

import traceback
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping, Sequence
from html import escape
from threading import Event, RLock, Thread, main_thread
from typing import Any

import ipywidgets  # type: ignore[import-untyped]
from matplotlib.figure import Figure

from fl_meta.laboratories.animated_figure import png

# Lines of text are as close as around the panel, not as far apart as controls. JupyterLab takes arrow keys
# (and d, d, which deletes a cell) before a slider or a list hears of them. It does not where it finds this
# attribute, which widgets cannot set from Python; it matters nowhere else. Ctrl+S still saves.
_ON_THE_PAGE = """<style>.fl-meta-panel .widget-html-content { line-height: 1.5; }</style>
<script>
window.flMetaKeys ??= window.addEventListener("keydown", event => {
    if (event.target.closest?.(".fl-meta-panel"))
        event.target.toggleAttribute("data-lm-suppress-shortcuts", !event.ctrlKey && !event.metaKey);
}, true) ?? true;
</script>"""


class Panel(ipywidgets.VBox):  # type: ignore[misc]
    """Controls, a picture, what it says in words, and the line of code that brings the controls back.

    A callback that raises shows its traceback below; in plain Python it raises.

    Attributes:
        controls: by the name of the argument that they stand for.
        buttons: set several controls at once, by what they say; "reset" sets all as they were at first.
        picture: PNG of `figure`, in its size or as wide as there is room for.
        figure: the last one drawn.
        words: what the picture says, as HTML.
        code: the line of code, as HTML.
        errors: the tracebacks of drawing.
        work: the computation that takes seconds, if there is one.
    """

    work: Work | None = None

    def __init__(
        self,
        name: str,
        controls: Mapping[str, ipywidgets.ValueWidget],
        draw: Callable[..., tuple[Figure, str]],
        *,
        presets: Mapping[str, Mapping[str, Any]] | None = None,
        fixed: str = "",
        work: tuple[str, Callable[..., Iterator[float]]] | None = None,
    ) -> None:
        """Draw for the first time.

        Args:
            name: of the function that makes this panel.
            controls: by the name of the argument that they stand for.
            draw: from the controls' values to a figure, always of one size, and HTML below it.
            presets: values for some controls, by what the button says.
            fixed: code of the arguments that no control stands for.
            work: what takes seconds: what its button says, and from the controls' values to an iterator that
                yields which share is done, often. After its end the panel is drawn again.
        """
        self.controls, self._name, self._draw, self._fixed = dict(controls), name, draw, fixed
        everything = {**(presets or {}), "reset": self._values}
        self.buttons = {text: ipywidgets.Button(description=text) for text in everything}
        for text, values in everything.items():
            self.buttons[text].on_click(lambda _, values=values: self.set(**values))
        layout = ipywidgets.Layout(max_width="calc(100% - 4px)", height="auto")
        self.picture = ipywidgets.Image(format="png", layout=layout)
        self.words, self.code = ipywidgets.HTML(), ipywidgets.HTML()
        # One redrawing for a button that moves several controls: they are silent, then this one changes.
        self._silent, self._pushes = False, ipywidgets.IntText()
        self._drawing = RLock()  # the end of the work draws, too
        # Registered first: a traceback goes when something is moved, not when there is another output.
        for control in (*controls.values(), self._pushes):
            control.observe(self._forget_errors, "value")
        self.errors = ipywidgets.interactive_output(self._follow, {**controls, "_": self._pushes})
        if work:
            text, compute = work
            self.work = Work(
                text,
                begin=lambda: compute(**self._values),
                end=lambda: self._follow(0, **self._values),
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
                self.picture,
                self.words,
                self.code,
                _on_the_page(),
            ]
        )
        # The first is the name in _ON_THE_PAGE; by both the browser tests find them.
        self.add_class("fl-meta-panel")
        self.code.add_class("fl-meta-code")

    def set(self, **values: Any) -> None:
        """Move several controls and draw once."""
        self._silent = True
        try:
            for argument, value in values.items():
                self.controls[argument].value = value
        finally:
            self._silent = False
        self._pushes.value += 1

    def close(self) -> None:
        """Stop what computes, and go."""
        if self.work:
            self.work.stop()
        super().close()

    @property
    def state(self) -> str:
        """Code that makes this panel with its controls as they are."""
        values = self._values.items()
        given = [f"{name}={round(v, 6) if isinstance(v, float) else v!r}" for name, v in values]
        return f"widgets.{self._name}({', '.join([self._fixed, *given] if self._fixed else given)})"

    def _follow(self, _: int, **values: Any) -> None:
        with self._drawing:
            if not self._silent:
                self.figure, self.words.value = self._draw(**values)
                self.picture.value = png(self.figure)
                # From both the browser knows the height before it has the picture: nothing below jumps.
                self.picture.width, self.picture.height = map(str, self.figure.canvas.get_width_height())
                self.code.value = f"these settings: <code>{escape(self.state)}</code>"

    def _forget_errors(self, _: Any) -> None:
        self.errors.outputs = ()

    def _repr_mimebundle_(self, **options: Any) -> dict[str, str]:
        """With the picture for readers of the saved notebook where no widget can be shown, GitHub for one."""
        bundle: dict[str, str] = super()._repr_mimebundle_(**options)
        return bundle | {"image/png": b64encode(self.picture.value).decode(), "text/plain": self.state}

    @property
    def _values(self) -> dict[str, Any]:
        return {argument: control.value for argument, control in self.controls.items()}


def _on_the_page() -> ipywidgets.Output:
    shown = {"output_type": "display_data", "data": {"text/html": _ON_THE_PAGE}, "metadata": {}}
    return ipywidgets.Output(outputs=(shown,), layout=ipywidgets.Layout(display="none"))


class Work(ipywidgets.HBox):  # type: ignore[misc]
    """A button that starts a computation in a thread of its own, how far it is, and a button that cancels it.

    Attributes:
        start: the first button; off while the computation runs.
        bar: the share that is done, from 0 to 1.
        cancel: the other button.
        said: how it went, in words.
        errors: the traceback of what a step or `end` raised, until the next start; shown below the row.
        thread: the last one started; None before.
    """

    def __init__(self, text: str, begin: Callable[[], Iterator[float]], end: Callable[[], None]) -> None:
        """Nothing runs yet.

        Args:
            text: on the first button.
            begin: gives the steps, each of which yields the share that is done.
            end: called after the last step.
        """
        self._begin, self._end = begin, end
        self._cancelled = Event()
        self.thread: Thread | None = None
        whole = ipywidgets.Layout(width="auto", flex="0 0 auto")
        self.start = ipywidgets.Button(description=text, layout=whole)
        self.bar = ipywidgets.FloatProgress(max=1.0, layout=ipywidgets.Layout(width="160px"))
        self.cancel = ipywidgets.Button(description="cancel", disabled=True)
        self.said = ipywidgets.Label(layout=ipywidgets.Layout(width="220px"))
        self.errors = ipywidgets.Output()
        self.start.on_click(lambda _: self._start())
        self.cancel.on_click(lambda _: self.stop())
        row = [self.start, self.bar, self.cancel, self.said]
        super().__init__(row, layout=ipywidgets.Layout(flex_flow="row wrap"))

    def stop(self) -> None:
        """Cancel what runs: nothing comes of it any more, and its thread ends with the step that it is at."""
        if not self.cancel.disabled:
            self._cancelled.set()
            self._over("cancelled: nothing has changed")

    def forget(self) -> None:
        """Say no more how it went; what runs goes on."""
        if self.cancel.disabled:
            self._say("")

    def _start(self) -> None:
        if self.start.disabled:  # a second click that was on its way
            return
        self._cancelled = Event()  # the one before stays set for a thread that has not noticed yet
        self.start.disabled, self.cancel.disabled = True, False
        self._say("computing …")
        self.thread = Thread(target=self._run, args=(self._begin(), self._cancelled))
        self.thread.start()

    def _run(self, steps: Iterator[float], cancelled: Event) -> None:
        try:
            for share in steps:
                # Python waits for threads at its exit; one killed within PyTorch would take the process down.
                if cancelled.is_set() or not main_thread().is_alive():
                    return
                self.bar.value = share
            if not cancelled.is_set():
                self._end()
                self._over("done")
        except Exception as error:
            if not cancelled.is_set():
                # An exception in a thread is nobody's. It stays while sliders move, which did not raise it.
                shown = {"ename": type(error).__name__, "evalue": str(error)}
                lines = traceback.format_exception(error)
                self.errors.outputs = ({"output_type": "error", **shown, "traceback": lines},)
                self._over("failed, see below")

    def _say(self, said: str) -> None:
        self.bar.value, self.said.value, self.errors.outputs = 0.0, said, ()

    def _over(self, said: str) -> None:
        self.said.value = said
        self.start.disabled, self.cancel.disabled = False, True


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
    _known(label, value, options)
    return ipywidgets.Dropdown(value=value, options=options, **_look(label))


def stops(label: str, value: Any, options: Sequence[Any]) -> ipywidgets.SelectionSlider:
    """A slider that stops at these values alone.

    Raises:
        ValueError: if the value is none of the options.
    """
    _known(label, value, options)
    return ipywidgets.SelectionSlider(value=value, options=options, continuous_update=False, **_look(label))


def _known(label: str, value: Any, options: Sequence[Any]) -> None:
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
