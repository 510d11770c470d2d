"""What a module must be for federated training to be defined, tried before any work is done."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.func import functional_call

from fl_meta.data.federated import FederatedDataset
from fl_meta.models.model import Model, draws_random_numbers
from fl_meta.models.parameters import Params


def check_model(
    model: Model,
    params: Params,
    data: FederatedDataset,
    *,
    train_batch: int | None = None,
    test_batch: int | None = None,
    second_order: bool = False,
) -> None:
    """Try the model on a few examples, so that a misfit is reported before any work.

    Args:
        model: the model.
        params: parameters with the names and shapes of `init`.
        data: what it is for; examples are tried, not all of them.
        train_batch: number of examples in the smallest batch of local training.
        test_batch: number of examples in the smallest batch that is scored.
        second_order: whether second derivatives are needed.

    Raises:
        ValueError: if the parameters do not fit the model, the model does not fit the data, does not take
            batches so small, or does something in `forward` that would make a client's result depend on what
            ran before. The message says what, and what to do.
    """
    _check_surroundings()
    _check_params(model, params)
    first = next(iter(params.values()))
    examples = (data.x.shape[1:], data.x.dtype, data.y.shape[1:], data.num_classes)
    tried = (*examples, first.dtype, first.device, train_batch, test_batch, second_order)
    if tried in model.passed or type(model).loss is not Model.loss:  # a loss of one's own may need no logits
        return
    x, y = (torch.from_numpy(np.array(array[:2])) for array in (data.x, data.y))
    x = x.to(first.device)
    with _random_states_are_kept():
        _check_outputs(model, params, x, y, data.num_classes)
        _check_forward(model, params, x)
        _check_derivatives(model, params, x, y, second_order=second_order)
        _check_small_batch(model, params, x, train_batch, training=True)
        _check_small_batch(model, params, x, test_batch, training=False)
    model.passed.add(tried)


def _check_surroundings() -> None:
    """Refuse modes of PyTorch in which gradients have other numbers, or do not exist."""
    for device in ("cpu", "cuda"):
        if torch.is_autocast_enabled(device):
            raise ValueError(
                f"torch.autocast is on for {device}, but clients compute in the parameters' own type; leave "
                "it off, or give parameters of the type you want: params=model.init(seed, torch.bfloat16)"
            )
    if torch.is_inference_mode_enabled():
        raise ValueError("torch.inference_mode is on, in which nothing can be trained; leave it off")


def _check_params(model: Model, params: Params) -> None:
    shapes = {name: tuple(tensor.shape) for name, tensor in model.module.named_parameters()}
    given = {name: tuple(tensor.shape) for name, tensor in params.items()}
    if given != shapes:
        odd = next(n for n in [*shapes, *given] if shapes.get(n) != given.get(n))
        raise ValueError(
            f"params do not fit the model {model.name!r}: {odd!r} has shape {given.get(odd)}, the model's "
            f"has {shapes.get(odd)}; give model.init(seed) or the params of a run of this model"
        )
    trainable = [name for name in params if name not in model.frozen]
    if not trainable:
        why = f"all of its {len(params)} are frozen" if params else "it has none at all"
        raise ValueError(f"the model {model.name!r} has no parameters to train: {why}")
    types = {params[name].dtype: name for name in trainable}
    if len(types) > 1 or not next(iter(types)).is_floating_point:
        found = ", ".join(f"{name!r} is {dtype}" for dtype, name in types.items())
        raise ValueError(
            f"params of the model {model.name!r} must be of one floating-point type, but {found}; convert "
            "them, for example {name: tensor.float() for name, tensor in params.items()}"
        )
    for name, tensor in params.items():
        if tensor.is_inference():
            raise ValueError(
                f"params of the model {model.name!r}: {name!r} was made inside torch.inference_mode, so it "
                "cannot be trained; copy it outside: params = {name: tensor.clone() for name, tensor in "
                "params.items()}"
            )
    devices = {tensor.device: name for name, tensor in params.items()}
    if len(devices) > 1:
        found = ", ".join(f"{name!r} is on {device}" for device, name in devices.items())
        raise ValueError(f"params of the model {model.name!r} must be on one device, but {found}")


def _check_outputs(model: Model, params: Params, x: Tensor, y: Tensor, num_classes: int) -> None:
    try:
        with torch.no_grad():
            # Copies, because forward may change what it is given.
            logits: Any = model.apply({name: tensor.clone() for name, tensor in params.items()}, x.clone())
    except Exception as error:
        raise ValueError(
            f"the model {model.name!r} does not read examples of shape {tuple(x.shape[1:])} ({x.dtype}): "
            f"{error}"
        ) from error
    if not isinstance(logits, Tensor):
        raise ValueError(
            f"the model {model.name!r} returns a {type(logits).__name__}; it must return the logits as one "
            "tensor: wrap the module in one whose forward does so"
        )
    if not logits.is_floating_point():
        raise ValueError(
            f"the model {model.name!r} returns {logits.dtype}; logits are floating-point numbers"
        )
    if logits.ndim < 2 or logits.shape[-1] < num_classes:
        raise ValueError(
            f"the model {model.name!r} gives logits of shape {tuple(logits.shape[1:])} for an example; the "
            f"data has {num_classes} classes"
        )
    if logits.shape[:-1] != y.shape:
        raise ValueError(
            f"the model {model.name!r} gives logits of shape {tuple(logits.shape)} for labels of shape "
            f"{tuple(y.shape)}; it must give {(*y.shape, num_classes)}"
        )


def _check_forward(model: Model, params: Params, x: Tensor) -> None:
    """Nothing may be left of a call but its outputs: no other value in a tensor, no other random state."""
    module = copy.deepcopy(model.module).to(x.device)
    if x.is_floating_point():
        x = x.to(next(tensor.dtype for name, tensor in params.items() if name not in model.frozen))
    outputs = []
    # What a call keeps may show only in the other mode, and only after other inputs.
    other = x[:1].expand_as(x)
    for training, inputs in ((False, x), (True, x), (True, other), (False, other), (False, x), (True, x)):
        module.train(training)
        for part in module.modules():
            if draws_random_numbers(part):
                part.eval()
        watched = {"its input": inputs.clone()}
        watched |= {f"its parameter {name!r}": tensor.clone() for name, tensor in params.items()}
        watched |= {f"the buffer {name!r}": tensor for name, tensor in module.named_buffers()}
        # Writing into `tensor.data` leaves the version as it is.
        before = {name: (tensor._version, tensor.clone()) for name, tensor in watched.items()}
        own = {name: watched[f"its parameter {name!r}"] for name in params}
        states = _random_states()
        try:
            with torch.no_grad():
                outputs.append(functional_call(module, own, (watched["its input"],)))
        except Exception as error:
            mode = "training" if training else "evaluation"
            raise ValueError(f"the model {model.name!r} does not run in {mode} mode: {error}") from error
        if _has_drawn(states):
            raise ValueError(
                f"model {model.name!r}: forward draws random numbers by itself, which cannot be seeded for "
                "each client and step; draw them with a module such as nn.Dropout instead of F.dropout"
            )
        now = watched | {f"the buffer {name!r}": tensor for name, tensor in module.named_buffers()}
        for name, (version, value) in before.items():
            if watched[name]._version != version or not _equal(now[name], value):
                raise ValueError(
                    f"model {model.name!r}: forward changes {name}, so a client's result would depend on "
                    "what ran before; compute a new tensor instead, or use a layer that keeps nothing "
                    "between batches, such as GroupNorm instead of a running mean"
                )
    if not (_equal(outputs[0], outputs[4]) and _equal(outputs[1], outputs[5])):
        raise ValueError(
            f"model {model.name!r}: forward returns something else when it is called again with the same "
            "parameters and inputs; it must keep nothing between calls"
        )


def _check_derivatives(model: Model, params: Params, x: Tensor, y: Tensor, *, second_order: bool) -> None:
    model, trainable = model.bound(params)
    leaves = {name: tensor.detach().requires_grad_() for name, tensor in trainable.items()}
    order = "first"
    try:
        with torch.enable_grad():
            loss = model.loss(leaves, x, y.to(x.device), 0)
            grads = torch.autograd.grad(
                loss, list(leaves.values()), create_graph=second_order, materialize_grads=True
            )
            order = "second"
            curved = [gradient.sum() for gradient in grads if gradient.requires_grad]
            if curved:
                torch.autograd.grad(curved, list(leaves.values()), allow_unused=True)
    except Exception as error:
        only = "; only MAML needs them, FOMAML and Reptile do not" if order == "second" else ""
        raise ValueError(f"the model {model.name!r} has no {order} derivatives: {error}{only}") from error
    try:
        copy.deepcopy(model.module)
    except Exception as error:
        raise ValueError(
            f"the model {model.name!r} cannot be copied, as each thread needs it: {error}"
        ) from error
    for name, gradient in zip(leaves, grads, strict=True):
        if gradient.layout != torch.strided:
            raise ValueError(
                f"the model {model.name!r} has sparse gradients in {name!r}; build its embedding with "
                "sparse=False"
            )


def _equal(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and torch.allclose(a, b, rtol=0, atol=0, equal_nan=True)


def _random_states() -> tuple[bytes, dict[str, Any], Any]:
    """The states of the generators of PyTorch, NumPy and Python."""
    numpy_state: Any = np.random.get_state(legacy=False)  # noqa: NPY002
    return torch.get_rng_state().numpy().tobytes(), numpy_state, random.getstate()


def _has_drawn(states: tuple[bytes, dict[str, Any], Any]) -> bool:
    """Whether a random number was drawn since the generators had these states."""
    (torch_then, numpy_then, python_then), (torch_now, numpy_now, python_now) = states, _random_states()
    same_numpy = all(np.array_equal(v, numpy_now["state"][k]) for k, v in numpy_then["state"].items())
    return torch_then != torch_now or python_then != python_now or not same_numpy


@contextmanager
def _random_states_are_kept() -> Iterator[None]:
    torch_state, numpy_state, python_state = _random_states()
    try:
        yield
    finally:
        torch.set_rng_state(torch.frombuffer(bytearray(torch_state), dtype=torch.uint8))
        np.random.set_state(numpy_state)  # noqa: NPY002
        random.setstate(python_state)


def _check_small_batch(model: Model, params: Params, x: Tensor, size: int | None, *, training: bool) -> None:
    if size != 1:  # two examples have been tried
        return
    try:
        with torch.no_grad():
            model.apply(params, x[:1], 0 if training else None)
    except Exception as error:
        where, what = ("train", "a local batch") if training else ("test", "a test part")
        raise ValueError(
            f"the model {model.name!r} cannot take {what} of one example ({error}), and there is one; choose "
            f"another batch_size, leave out clients with one {where} example, or normalize each example "
            "alone, as GroupNorm and LayerNorm do"
        ) from error
