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
) -> None:
    """Try the model on a few examples, so that a misfit is reported before any work.

    Args:
        model: the model.
        params: parameters with the names and shapes of `init`.
        data: what it is for; examples are tried, not all of them.
        train_batch: number of examples in the smallest batch of local training.
        test_batch: number of examples in the smallest batch that is scored.

    Raises:
        ValueError: if the parameters do not fit the model, the model does not fit the data, does not take
            batches so small, or does something in `forward` that would make a client's result depend on what
            ran before. The message says what, and what to do.
    """
    _check_params(model, params)
    first = next(iter(params.values()))
    examples = (data.x.shape[1:], data.x.dtype, data.y.shape[1:], data.num_classes)
    tried = (*examples, first.dtype, first.device, train_batch, test_batch)
    if tried in model.passed:
        return
    x, y = (torch.from_numpy(np.array(array[:2])) for array in (data.x, data.y))
    x = x.to(first.device)
    _check_outputs(model, params, x, y, data.num_classes)
    _check_forward(model, params, x)
    _check_small_batch(model, params, x, train_batch, training=True)
    _check_small_batch(model, params, x, test_batch, training=False)
    model.passed.add(tried)


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
    devices = {tensor.device: name for name, tensor in params.items()}
    if len(devices) > 1:
        found = ", ".join(f"{name!r} is on {device}" for device, name in devices.items())
        raise ValueError(f"params of the model {model.name!r} must be on one device, but {found}")


def _check_outputs(model: Model, params: Params, x: Tensor, y: Tensor, num_classes: int) -> None:
    try:
        with torch.no_grad():
            logits: Any = model.apply(params, x)
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
    # What a call in one mode changes may show only in the other.
    for training in (False, True, False, True):
        module.train(training)
        for part in module.modules():
            if draws_random_numbers(part):
                part.eval()
        watched = {"its input": x.clone()}
        watched |= {f"its parameter {name!r}": tensor.clone() for name, tensor in params.items()}
        watched |= {f"the buffer {name!r}": tensor for name, tensor in module.named_buffers()}
        # Writing into `tensor.data` leaves the version as it is.
        before = {name: (tensor._version, tensor.clone()) for name, tensor in watched.items()}
        own = {name: watched[f"its parameter {name!r}"] for name in params}
        with _random_state_is_kept(model), torch.no_grad():
            try:
                outputs.append(functional_call(module, own, (watched["its input"],)))
            except Exception as error:
                mode = "training" if training else "evaluation"
                raise ValueError(f"the model {model.name!r} does not run in {mode} mode: {error}") from error
        now = watched | {f"the buffer {name!r}": tensor for name, tensor in module.named_buffers()}
        for name, (version, value) in before.items():
            if watched[name]._version != version or not _equal(now[name], value):
                raise ValueError(
                    f"model {model.name!r}: forward changes {name}, so a client's result would depend on "
                    "what ran before; compute a new tensor instead, or use a layer that keeps nothing "
                    "between batches, such as GroupNorm instead of a running mean"
                )
    if not (_equal(outputs[0], outputs[2]) and _equal(outputs[1], outputs[3])):
        raise ValueError(
            f"model {model.name!r}: forward returns something else when it is called again with the same "
            "parameters and inputs; it must keep nothing between calls"
        )


def _equal(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and torch.allclose(a, b, rtol=0, atol=0, equal_nan=True)


@contextmanager
def _random_state_is_kept(model: Model) -> Iterator[None]:
    """Raise ValueError if random numbers are drawn, and leave every generator as it was."""

    def states() -> list[Any]:
        numpy_state = np.random.get_state(legacy=False)  # noqa: NPY002
        return [torch.get_rng_state().tolist(), repr(numpy_state), random.getstate()]

    with torch.random.fork_rng(devices=[]):
        before = states()
        yield
        if states() != before:
            raise ValueError(
                f"model {model.name!r}: forward draws random numbers by itself, which cannot be seeded for "
                "each client and step; draw them with a module such as nn.Dropout instead of F.dropout"
            )


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
