"""What a module must be for federated training to be defined, tried before any work is done."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.func import functional_call

from fl_meta.data.federated import FederatedDataset
from fl_meta.models.model import Model, has_own_methods
from fl_meta.models.parameters import Params
from fl_meta.models.purity import check_calls, check_gradients, random_states_are_kept

# Examples that a model is tried on: some modules do something from a certain number on.
_TRIED = 8


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
    check_surroundings()
    _check_params(model, params)
    trained = next(tensor for name, tensor in params.items() if name not in model.frozen)
    examples = (data.x.shape[1:], data.x.dtype, data.y.shape[1:], data.num_classes)
    tried = (*examples, trained.dtype, trained.device, train_batch, test_batch, second_order)
    # A subclass with a loss of its own may need no logits.
    if tried in model.passed or has_own_methods(model):
        return
    x, y = (torch.from_numpy(np.array(array[:_TRIED])) for array in (data.x, data.y))
    x = x.to(trained.device, trained.dtype if x.is_floating_point() else x.dtype)
    with random_states_are_kept():
        _check_outputs(model, params, x, y, data.num_classes, trained.dtype)
        check_calls(model, params, x)
        check_gradients(model, params, x, y.to(x.device), second_order=second_order)
        _check_small_batch(model, params, x, train_batch, training=True)
        _check_small_batch(model, params, x, test_batch, training=False)
    model.passed.add(tried)


def check_surroundings() -> None:
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
    if {name for name, parameter in model.module.named_parameters() if not parameter.requires_grad} != (
        model.frozen
    ):
        raise ValueError(
            f"parameters of the model {model.name!r} were frozen, or trained again, after it was first used; "
            "make a new Model for that"
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
    for name, parameter in model.module.named_parameters():
        # Parameters are an argument, and a hook belongs to the module's own.
        if parameter.requires_grad and (parameter._backward_hooks or parameter._post_accumulate_grad_hooks):
            raise ValueError(
                f"model {model.name!r}: the parameter {name!r} has a hook on its gradient, which would not "
                "run; compute in forward what it does: a masked weight instead of a masked gradient, say"
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


def _check_outputs(
    model: Model, params: Params, x: Tensor, y: Tensor, num_classes: int, dtype: torch.dtype
) -> None:
    try:
        with torch.no_grad():
            # Copies, because forward may change whatever it is given.
            given = {name: tensor.clone() for name, tensor in params.items()}
            logits: Any = functional_call(model.copied_module().to(x.device).eval(), given, (x.clone(),))
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
    if logits.dtype != dtype:
        raise ValueError(
            f"the model {model.name!r} returns {logits.dtype}; logits must be of the parameters' type, "
            f"{dtype}"
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


def _check_small_batch(model: Model, params: Params, x: Tensor, size: int | None, *, training: bool) -> None:
    if size != 1:  # larger ones have been tried
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
