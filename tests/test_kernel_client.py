"""No message of a kernel is missed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from queue import Empty
from typing import Any

import pytest
import zmq
import zmq.asyncio
from jupyter_client.session import Session

from fl_meta.reproduction.kernel_client import AttentiveChannel
from fl_meta.reproduction.runner import _InterpretersOwnKernel


@pytest.fixture
def ends() -> Iterator[tuple[zmq.asyncio.Socket, zmq.Socket[bytes]]]:
    """Two connected sockets, the first an asynchronous one."""
    context = zmq.asyncio.Context()
    ours, theirs = context.socket(zmq.DEALER), zmq.Context(context).socket(zmq.DEALER)
    port = ours.bind_to_random_port("tcp://127.0.0.1")
    theirs.connect(f"tcp://127.0.0.1:{port}")
    yield ours, theirs
    for end in (ours, theirs):
        end.close(linger=0)
    context.term()


def test_a_message_whose_signal_another_call_has_used_up_is_found(
    ends: tuple[zmq.asyncio.Socket, zmq.Socket[bytes]],
) -> None:
    ours, theirs = ends
    session = Session(key=b"key")

    async def wait() -> dict[str, Any]:
        channel = AttentiveChannel(ours, session)
        waiting = asyncio.ensure_future(channel.get_msg(timeout=20))
        await asyncio.sleep(0.1)
        session.send(theirs, "execute_reply", content={"answer": 42})
        # As sending does, while the loop is busy with something else.
        shadow = zmq.Socket.shadow(ours.underlying)
        while not shadow.getsockopt(zmq.EVENTS) & zmq.POLLIN:
            pass
        return await asyncio.wait_for(waiting, 5)

    assert asyncio.run(wait())["content"] == {"answer": 42}


@pytest.mark.parametrize("timeout", [0, 0.1, 0.7])
def test_no_message_is_empty(ends: tuple[zmq.asyncio.Socket, zmq.Socket[bytes]], timeout: float) -> None:
    async def wait() -> dict[str, Any]:
        return await asyncio.wait_for(AttentiveChannel(ends[0], Session(key=b"key")).get_msg(timeout), 5)

    with pytest.raises(Empty):
        asyncio.run(wait())


def test_kernels_have_such_clients() -> None:
    client = _InterpretersOwnKernel().client()
    channels = [getattr(client, f"{name}_channel_class") for name in ("shell", "iopub", "control")]
    assert channels == [AttentiveChannel] * 3
