"""Clients' momentum buffers, for algorithms and evaluations that keep them from round to round."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from fl_meta.models.parameters import Params, unflatten


@dataclass(frozen=True)
class ClientMomentum:
    """The momentum buffer of every client that has taken part so far; the others start at zero.

    Attributes:
        buffers: by client, flat [num_parameters]; they are read and never written into.
    """

    buffers: Mapping[str, Tensor] = field(default_factory=dict)

    def check(self, num_parameters: int) -> None:
        """Raise ValueError if a buffer has another size than the model."""
        for client_id, buffer in self.buffers.items():
            if buffer.shape != (num_parameters,):
                raise ValueError(
                    f"the momentum buffer of client {client_id!r} has the shape {tuple(buffer.shape)}, but "
                    f"the model has {num_parameters} parameters; it belongs to another model"
                )

    def before(self, client_id: str, like: Params) -> Params | None:
        """A client's buffer before its first step, as named tensors; None stands for zero."""
        buffer = self.buffers.get(client_id)
        return None if buffer is None else unflatten(buffer, like)

    def updated(self, buffers: Mapping[str, Tensor]) -> ClientMomentum:
        """The same with these clients' new buffers; no other buffer is copied."""
        return ClientMomentum({**self.buffers, **buffers})
