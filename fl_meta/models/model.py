"""The functional view of a module that everything else uses: init, apply, loss, score."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call

from fl_meta.data.federated import PADDING
from fl_meta.models.parameters import Params

# PyTorch's global generator is one for all threads.
_generator_in_use = threading.RLock()


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw from PyTorch's global generator as it begins with this seed, and leave it as it was."""
    with _generator_in_use, torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


@contextmanager
def in_training(module: nn.Module) -> Iterator[None]:
    """Training mode for a module that may be the caller's own, whose mode is given back."""
    modes = [(part, part.training) for part in module.modules()]
    module.train()
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode


def draws_random_numbers(part: nn.Module) -> bool:
    """Whether a module itself, apart from its children, draws random numbers in training."""
    if isinstance(part, nn.modules.dropout._DropoutNd):
        return part.p > 0
    if isinstance(part, nn.RNNBase | nn.MultiheadAttention):
        return part.dropout > 0
    return isinstance(part, nn.RReLU)


@dataclass(frozen=True)
class Model:
    """A functional view of a module: parameters are an argument, and nothing is kept between calls.

    Any module will do that maps inputs [batch, ...] to logits [batch, classes], or to
    [batch, positions, classes] for text, and whose `forward` changes nothing: neither its buffers nor its
    parameters nor its inputs. Random numbers in training must come from modules such as `nn.Dropout`, which
    are found and seeded, and not from a call of `F.dropout` in `forward`. `check_model` tells what is wrong.

    A parameter with `requires_grad=False` is *frozen*: it is one of the parameters everywhere, and nothing
    changes its value, neither training nor personalization.

    Example:
        >>> mine = fl_meta.Model("mine", lambda: torch.nn.Sequential(
        ...     torch.nn.Flatten(), torch.nn.Linear(784, 62)))
        >>> mine.apply(mine.init(seed=0), torch.zeros(1, 28, 28)).shape
        torch.Size([1, 62])

    Attributes:
        name: shown in tables, and compared when a run is resumed from a checkpoint.
        build: makes the module, with fresh parameters drawn from torch's global generator.
        constants: values that replace the module's frozen parameters; `bound` sets them.
    """

    name: str
    build: Callable[[], nn.Module]
    constants: Params = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        if isinstance(self.build, nn.Module):
            raise ValueError(
                f"model {self.name!r}: build is a {type(self.build).__name__}; give a function that makes "
                "it, for example lambda: nn.Linear(784, 62), so that it can be made anew from a seed"
            )

    @property
    def module(self) -> nn.Module:
        """The module that runs in this thread; none of its own parameters is used, other than `constants`.

        Raises:
            ValueError: if it keeps running statistics, which would make a client's result depend on the
                clients before it, has parameters without a shape or values, or cannot be copied.
        """
        # Running a module with other parameters changes it for a moment.
        if not hasattr(self._of_thread, "module"):
            self._of_thread.module = self.copied_module()
        module: nn.Module = self._of_thread.module
        return module

    @cached_property
    def _of_thread(self) -> threading.local:
        return threading.local()

    def copied_module(self, own: Params | None = None) -> nn.Module:
        """A copy of the module as it was built, for a thread of its own or to be tried out.

        Args:
            own: values for its own parameters. Without these, its parameters and buffers are in the same
                memory as those of `module`.
        """
        parameters = dict(self._built.named_parameters())
        shared: dict[int, Any] = {id(parameter): parameter for parameter in parameters.values()}
        if own is None:  # nothing writes into buffers
            shared |= {id(buffer): buffer for buffer in self._built.buffers()}
        for name, tensor in (self.constants | (own or {})).items():
            # One object for all names of a parameter, so that those that are tied stay so.
            shared[id(parameters[name])] = nn.Parameter(
                tensor, parameters[name].requires_grad and name not in self.constants
            )
        try:
            module = copy.deepcopy(self._built, shared)
        except Exception as error:
            raise ValueError(
                f"the model {self.name!r} cannot be copied, as each thread needs a module of its own: {error}"
            ) from error
        if module is self._built:
            raise ValueError(
                f"the model {self.name!r} cannot be copied: __deepcopy__ returns the module itself"
            )
        return module

    @cached_property
    def _built(self) -> nn.Module:
        """The module as it was built; it never runs, so it has nothing that a call would leave in it."""
        with seeded(0):  # buffers may be drawn too
            module = self.build()
        if not isinstance(module, nn.Module):
            raise ValueError(
                f"model {self.name!r}: build returns a {type(module).__name__}; it must return an nn.Module"
            )
        for name, parameter in module.named_parameters():
            if parameter.is_meta:
                raise ValueError(
                    f"model {self.name!r}: the parameter {name!r} is on the device meta, without "
                    "values; build the module on the cpu"
                )
            if torch.nn.parameter.is_lazy(parameter):
                raise ValueError(
                    f"model {self.name!r}: the parameter {name!r} of a lazy module has no shape yet; give "
                    "the module its sizes, for example nn.Linear(784, 62) instead of nn.LazyLinear(62)"
                )
        with in_training(module):
            for title, part in module.named_modules():
                statistics = isinstance(part, nn.modules.batchnorm._NormBase) and part.track_running_stats
                if statistics and part.training:  # a module may keep it in evaluation mode
                    raise ValueError(
                        f"model {self.name!r}: {type(part).__name__} {title!r} keeps running statistics "
                        "between batches; use GroupNorm, or track_running_stats=False"
                    )
        return module

    @cached_property
    def passed(self) -> set[tuple[object, ...]]:
        """The kinds of data and parameters for which `check_model` has found nothing wrong."""
        return set()

    @cached_property
    def has_dropout(self) -> bool:
        """Whether training draws random numbers."""
        return any(map(draws_random_numbers, self.module.modules()))

    @cached_property
    def frozen(self) -> frozenset[str]:
        """The names of the parameters that stay as they are: those built with `requires_grad=False`."""
        return frozenset(name for name, p in self._built.named_parameters() if not p.requires_grad)

    @cached_property
    def _needed(self) -> frozenset[str]:
        """The names of the parameters that `apply` must be given."""
        return frozenset(name for name, _ in self._built.named_parameters() if name not in self.constants)

    @cached_property
    def num_parameters(self) -> int:
        """The number of trainable parameters."""
        return sum(parameter.numel() for parameter in self._built.parameters() if parameter.requires_grad)

    def only(self, *parts: str) -> Model:
        """The same model with all parameters frozen that are outside of these parts.

        Example:
            >>> head = model.only("1")  # the second module of the nn.Sequential
            >>> table = fl_meta.personalize(head, params, held_out, epochs=1)

        Args:
            parts: names of parameters, or of modules with all the parameters inside them.

        Raises:
            ValueError: if a part has no trainable parameter; the message lists those there are.
        """

        def inside(name: str, part: str) -> bool:
            return name == part or name.startswith(f"{part}.")

        def within(name: str) -> bool:
            return any(inside(name, part) for part in parts)

        def build() -> nn.Module:
            # The caller's own module may be what `build` returns.
            module = Model(self.name, self.build).copied_module({})
            for name, parameter in module.named_parameters():
                if not within(name):
                    parameter.requires_grad_(False)
            return module

        everywhere = list(self._built.named_parameters(remove_duplicate=False))
        kept = {id(parameter): name for name, parameter in everywhere if within(name)}
        for other, parameter in everywhere:
            if id(parameter) in kept and not within(other):
                raise ValueError(
                    f"model {self.name!r}: {kept[id(parameter)]!r} and {other!r} are one parameter, so it "
                    "cannot be trained in one place and frozen in the other; name both parts"
                )
        trainable = [name for name, parameter in everywhere if parameter.requires_grad]
        for part in parts or [""]:
            if not any(inside(name, part) for name in trainable):
                raise ValueError(
                    f"model {self.name!r} has no trainable parameters in {part!r}; it has "
                    f"{', '.join(trainable) or 'none'}: name some of these, or the modules they are in"
                )
        return Model(f"{self.name}, only {', '.join(parts)}", build)

    def bound(self, params: Params) -> tuple[Model, Params]:
        """The model with its frozen parameters fixed to what they are in `params`, and the trainable ones.

        So whatever computes with the result cannot but leave the frozen parameters alone.
        """
        if self.frozen.isdisjoint(params):
            return self, params
        constants = {name: params[name] for name in params if name in self.frozen}
        trainable = {name: tensor for name, tensor in params.items() if name not in self.frozen}
        bound = replace(self, build=lambda: self._built, constants=constants)
        vars(bound)["passed"] = self.passed  # what was tried with the whole model need not be tried again
        return bound, trainable

    def complete(self, params: Params) -> Params:
        """The trainable parameters together with the constants, in the module's order."""
        if not self.constants:
            return params
        every = params | self.constants
        return {name: every[name] for name, _ in self.module.named_parameters()}

    def init(self, seed: int, dtype: torch.dtype = torch.float32) -> Params:
        """Fresh parameters: a function of `seed` alone."""
        _ = self.module  # built now, because tensors made inside torch.func.grad would stay tied to it
        with seeded(seed):
            module = self.build()
        return {
            # A frozen table of whole numbers stays one.
            name: tensor.detach().to(dtype if tensor.is_floating_point() else tensor.dtype)
            for name, tensor in module.named_parameters()
        }

    def apply(self, params: Params, x: Tensor, dropout_seed: int | None = None) -> Tensor:
        """Logits [batch, classes] or [batch, positions, classes].

        Args:
            params: the parameters; floating-point inputs are cast to their type.
            x: inputs [batch, ...].
            dropout_seed: None evaluates without dropout; a number trains with the masks that it fixes.

        Raises:
            ValueError: if parameters are missing.
        """
        if not self._needed <= params.keys():
            missing = [name for name, _ in self.module.named_parameters() if name not in params]
            raise ValueError(
                f"params lack {', '.join(missing)} of the model {self.name!r}; give all its parameters, as "
                "from model.init(seed)"
            )
        if x.is_floating_point():
            x = x.to(next(tensor.dtype for tensor in params.values() if tensor.is_floating_point()))
        training = dropout_seed is not None
        self.module.train(training)
        if not (training and self.has_dropout):
            return cast(Tensor, functional_call(self.module, params, (x,)))
        with seeded(cast(int, dropout_seed)):
            return cast(Tensor, functional_call(self.module, params, (x,)))

    def loss(self, params: Params, x: Tensor, y: Tensor, dropout_seed: int | None = None) -> Tensor:
        """Mean cross-entropy in nats over all labels that are not `PADDING`; a scalar.

        Args: as in `apply`; y: labels [batch] or [batch, positions].
        """
        return mean_loss(self.apply(params, x, dropout_seed), y)

    @torch.no_grad()
    def score(self, params: Params, x: Tensor, y: Tensor, chunk: int = 1024) -> tuple[float, int, int]:
        """Summed loss in nats, number of correct predictions and number of predictions, without dropout."""
        totals = [
            score_logits(self.apply(params, x_part).flatten(0, -2), y_part.flatten())
            for x_part, y_part in zip(torch.split(x, chunk), torch.split(y, chunk), strict=True)
        ]
        loss, correct, count = (float(sum(column)) for column in zip(*totals, strict=True))
        return loss, int(correct), int(count)


def has_own_methods(model: Model) -> bool:
    """Whether a subclass computes logits, losses or scores in its own way, which engines must then call."""
    return any(getattr(type(model), name) is not getattr(Model, name) for name in ("apply", "loss", "score"))


def mean_loss(logits: Tensor, y: Tensor) -> Tensor:
    """Mean cross-entropy in nats over all labels that are not `PADDING`; a scalar.

    Args:
        logits: [..., classes].
        y: labels [...].
    """
    return nn.functional.cross_entropy(logits.flatten(0, -2), y.flatten().long(), ignore_index=PADDING)


def score_logits(logits: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Summed loss in nats, number of correct predictions and number of predictions, over the last axis of y.

    Args:
        logits: [..., predictions, classes].
        y: labels [..., predictions]; those that are `PADDING` do not count.
    """
    valid = y != PADDING
    losses = nn.functional.cross_entropy(
        logits.flatten(0, -2), y.flatten().long(), ignore_index=PADDING, reduction="none"
    )
    # argmax of NaN is an arbitrary class: a model that has diverged is never right.
    right = (logits.argmax(-1) == y) & valid & ~logits.isnan().any(-1)
    return losses.view(y.shape).sum(-1), right.sum(-1), valid.sum(-1)
