"""A client of a kernel that misses none of its messages."""

from __future__ import annotations

import math
import time
from queue import Empty
from typing import Any

from jupyter_client.asynchronous.client import AsyncKernelClient
from jupyter_client.channels import AsyncZMQSocketChannel
from traitlets import Type

_LOOK_EVERY = 0.5  # seconds


class AttentiveChannel(AsyncZMQSocketChannel):
    """Looks for messages from time to time, besides waiting for them.

    jupyter_client sends through a second object for the same socket, `zmq.Socket.shadow`. If a message
    arrives at that moment, sending uses up the signal for it, and whoever only waits would wait for ever. A
    slider's outputs, for example, are sent while a cell's reply is awaited.
    """

    async def get_msg(  # type: ignore[override]
        self, timeout: float | None = None
    ) -> dict[str, Any]:
        """The next message, waiting for at most `timeout` seconds; queue.Empty if there is none."""
        end = math.inf if timeout is None else time.monotonic() + timeout
        while True:
            left = max(0.0, end - time.monotonic())
            try:
                return await super().get_msg(min(left, _LOOK_EVERY))
            except Empty:
                if left <= _LOOK_EVERY:
                    raise


class AttentiveClient(AsyncKernelClient):
    """A client whose channels are attentive."""

    shell_channel_class = Type(AttentiveChannel)
    iopub_channel_class = Type(AttentiveChannel)
    control_channel_class = Type(AttentiveChannel)
