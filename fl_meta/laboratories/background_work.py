"""A computation that runs while the controls stay usable: a start button, a progress bar, a cancel button."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from threading import Event, Thread, main_thread

import ipywidgets  # type: ignore[import-untyped]


class Work(ipywidgets.HBox):  # type: ignore[misc]
    """A button that runs a computation in its own thread, a progress bar, and a cancel button.

    `errors` has the traceback of an exception in a step or in `end` until the next start.
    """

    def __init__(self, text: str, begin: Callable[[], Iterator[float]], end: Callable[[], None]) -> None:
        """Make the row; each step of the iterator that `begin` returns yields the share done so far."""
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
        """Cancel the computation: its result is discarded, and its thread ends after the current step."""
        if not self.cancel.disabled:
            self._cancelled.set()
            self._over("cancelled: nothing has changed")

    def forget(self) -> None:
        """Clear the message about the last computation; one that is running continues."""
        if self.cancel.disabled:
            self._say("")

    def _start(self) -> None:
        if self.start.disabled:  # a second click may already be under way
            return
        self._cancelled = Event()  # the old event stays set for a cancelled thread
        self.start.disabled, self.cancel.disabled = True, False
        self._say("computing …")
        self.thread = Thread(target=self._run, args=(self._begin(), self._cancelled))
        self.thread.start()

    def _run(self, steps: Iterator[float], cancelled: Event) -> None:
        try:
            for share in steps:
                # Python waits for this thread when it exits; a daemon killed inside PyTorch would crash it.
                if cancelled.is_set() or not main_thread().is_alive():
                    return
                self.bar.value = share
            if not cancelled.is_set():
                self._end()
                self._over("done")
        except Exception as error:
            if not cancelled.is_set():
                # Nobody sees an exception in a thread. Unlike errors of drawing, it survives a slider's move.
                shown = {"ename": type(error).__name__, "evalue": str(error)}
                lines = traceback.format_exception(error)
                self.errors.outputs = ({"output_type": "error", **shown, "traceback": lines},)
                self._over("failed, see below")

    def _say(self, said: str) -> None:
        self.bar.value, self.said.value, self.errors.outputs = 0.0, said, ()

    def _over(self, said: str) -> None:
        self.said.value = said
        self.start.disabled, self.cancel.disabled = False, True
