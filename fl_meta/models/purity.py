"""Whether a module's results depend on its parameters and inputs alone, and nothing is left of a call.

Otherwise a client's result would depend on what ran before it, and engines would disagree.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from fl_meta.models.model import Model, draws_random_numbers, in_training, mean_loss, seeded
from fl_meta.models.parameters import Params

# Training mode or not, and whether dropout and the like draw random numbers.
_MODES = ((False, False), (True, False), (True, True))

_DRAWS = (
    "model {!r}: {} draws random numbers by itself, which cannot be seeded for each client and step; draw "
    "them in forward, with a module such as nn.Dropout instead of F.dropout"
)


def check_calls(model: Model, params: Params, x: Tensor) -> None:
    """Refuse a model whose forward changes tensors, keeps something, or draws random numbers by itself.

    Args:
        x: examples, of the parameters' type [batch, ...].

    Raises:
        ValueError: what it does, and what to do instead.
    """
    module = model.copied_module(_copies(dict(model.module.named_parameters()))).to(x.device)
    other = x[:1].expand_as(x)

    def outputs(
        module: nn.Module, params: Params, x: Tensor, modes: Iterable[tuple[bool, bool]]
    ) -> list[Tensor]:
        return [
            _watched_call(model, module, params, x, training=training, drawing=drawing)
            for training, drawing in modes
        ]

    # What a call keeps may show only in another mode, and only after other inputs.
    first = outputs(module, params, x, _MODES)
    outputs(module, params, other, reversed(_MODES))
    again = outputs(module, params, x, _MODES)
    # The same in a module that has seen neither these inputs nor these parameters.
    scaled = {name: t if name in model.frozen else t * 1.5 for name, t in params.items()}
    for given, inputs in ((params, other), (scaled, x)):
        first += outputs(module, given, inputs, _MODES[:1])
        again += outputs(model.copied_module({}).to(x.device), given, inputs, _MODES[:1])
    if not all(map(_equal, first, again)):
        raise ValueError(
            f"model {model.name!r}: forward returns something else when it is called again with the same "
            "parameters and inputs; it must keep nothing between calls"
        )


def _watched_call(
    model: Model, module: nn.Module, params: Params, x: Tensor, *, training: bool, drawing: bool
) -> Tensor:
    """The outputs of a call, after which no other tensor and no generator may have changed."""
    given = {f"its parameter {name!r}": tensor for name, tensor in _copies(params).items()}
    watched = given | {"its input": x.clone()}
    watched |= {f"the buffer {name!r}": tensor for name, tensor in module.named_buffers()}
    watched |= {f"the module's own parameter {name!r}": p.data for name, p in module.named_parameters()}
    # Writing into `tensor.data` leaves the version as it is.
    before = {name: (tensor._version, tensor.clone()) for name, tensor in watched.items()}
    module.train(training)
    for part in module.modules():
        if not drawing and draws_random_numbers(part):
            part.eval()
    torch.manual_seed(0)
    states = _random_states()
    try:
        with torch.no_grad():
            named = dict(zip(params, given.values(), strict=True))
            outputs: Tensor = functional_call(module, named, (watched["its input"],))
    except Exception as error:
        mode = "training" if training else "evaluation"
        raise ValueError(f"the model {model.name!r} does not run in {mode} mode: {error}") from error
    torch_state, *other_states = _random_states()
    if other_states != states[1:] or (torch_state != states[0] and not drawing):
        raise ValueError(_DRAWS.format(model.name, "forward"))
    now = watched | {f"the buffer {name!r}": tensor for name, tensor in module.named_buffers()}
    for name, (version, value) in before.items():
        if watched[name]._version != version or not _equal(now[name], value):
            raise ValueError(
                f"model {model.name!r}: forward changes {name}, so a client's result would depend on what "
                "ran before; compute a new tensor instead, or use a layer that keeps nothing between "
                "batches, such as GroupNorm instead of a running mean"
            )
    return outputs


def check_gradients(model: Model, params: Params, x: Tensor, y: Tensor, *, second_order: bool) -> None:
    """Refuse a model without gradients, or whose gradients depend on more than parameters and inputs.

    Args: as in `check_calls`; y: labels; second_order: whether second derivatives are needed.
    """
    leaves = {name: tensor for name, tensor in params.items() if name not in model.frozen}

    def loss_and_gradients(module: nn.Module, second_order: bool = False) -> list[Tensor]:
        own = {name: tensor.detach().clone().requires_grad_() for name, tensor in leaves.items()}
        order = "first"
        torch.manual_seed(0)
        try:
            with torch.enable_grad(), in_training(module):
                loss = mean_loss(functional_call(module, params | own, (x.clone(),)), y)
                states = _random_states()
                found = torch.autograd.grad(
                    loss, list(own.values()), create_graph=second_order, materialize_grads=True
                )
                order = "second"
                if curved := [gradient.sum() for gradient in found if gradient.requires_grad]:
                    torch.autograd.grad(curved, list(own.values()), allow_unused=True)
        except Exception as error:
            only = "; only MAML needs them, FOMAML and Reptile do not" if order == "second" else ""
            raise ValueError(f"the model {model.name!r} has no {order} derivatives: {error}{only}") from error
        if _random_states() != states:
            raise ValueError(_DRAWS.format(model.name, "backward"))
        return [loss.detach(), *(gradient.detach() for gradient in found)]

    module = model.copied_module().to(x.device)
    once = loss_and_gradients(module, second_order)
    for name, gradient in zip(leaves, once[1:], strict=True):
        if gradient.layout != torch.strided:
            raise ValueError(
                f"the model {model.name!r} has sparse gradients in {name!r}; build its embedding with "
                "sparse=False"
            )
    if not all(map(_equal, once, loss_and_gradients(module))):
        raise ValueError(
            f"model {model.name!r}: its gradient is another one when it is computed again; it must keep "
            "nothing between calls, and draw no random numbers of its own"
        )
    torch.manual_seed(0)
    if not all(map(_equal, once, loss_and_gradients(model.build().to(x.device)))):
        raise ValueError(
            f"the model {model.name!r} cannot be copied, as each thread needs a module of its own: its copy "
            "computes something else, as where a function in it refers to the module that it was made for"
        )
    others = {
        name: torch.full_like(parameter, torch.nan)
        for name, parameter in model.module.named_parameters()
        if parameter.is_floating_point()
    }
    if not all(map(_equal, once, loss_and_gradients(model.copied_module(others).to(x.device)))):
        raise ValueError(
            f"model {model.name!r}: it computes with other parameters than those it is given; read "
            "them as attributes of the module in forward, not from a list (use nn.ParameterList), and do "
            "without torch.utils.checkpoint"
        )


def _copies(params: Params) -> Params:
    return {name: tensor.detach().clone() for name, tensor in params.items()}


def _equal(a: Tensor, b: Tensor) -> bool:
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    if a.layout != torch.strided:  # the version tells whether it has changed
        return True
    # Products at other addresses may round in another way.
    tolerance = 1e-5 if a.is_floating_point() else 0.0
    return torch.allclose(a, b, rtol=tolerance, atol=tolerance / 1000, equal_nan=True)


def _random_states() -> list[Any]:
    """The states of the generators of PyTorch, Python and NumPy, to be compared."""
    numpy_state: Any = np.random.get_state(legacy=False)  # noqa: NPY002
    parts = [np.asarray(value).tobytes() for value in numpy_state["state"].values()]
    return [torch.get_rng_state().numpy().tobytes(), random.getstate(), parts]


@contextmanager
def random_states_are_kept() -> Iterator[None]:
    """Leave the global generators of PyTorch, Python and NumPy as they were."""
    numpy_state, python_state = np.random.get_state(), random.getstate()  # noqa: NPY002
    try:
        with seeded(0):
            yield
    finally:
        np.random.set_state(numpy_state)  # noqa: NPY002
        random.setstate(python_state)
