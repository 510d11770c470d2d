"""Small models as plain `nn.Module`, and the one functional view of them: init, apply, loss."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import cast

import torch
from torch import Tensor, nn
from torch.func import functional_call

from fl_meta.data.federated import PADDING, FederatedDataset
from fl_meta.models.parameters import Params


def draws_random_numbers(part: nn.Module) -> bool:
    """Whether a module itself, its children aside, draws random numbers in training."""
    if isinstance(part, nn.modules.dropout._DropoutNd):
        return part.p > 0
    if isinstance(part, nn.RNNBase | nn.MultiheadAttention):
        return part.dropout > 0
    return isinstance(part, nn.RReLU)


@dataclass(frozen=True)
class Model:
    """A functional view of a module: parameters go in, nothing is kept.

    Any module will do: `Model("mine", lambda: nn.Sequential(nn.Flatten(), nn.Linear(784, 62)))`.
    It maps inputs [batch, ...] to logits [batch, classes], or [batch, positions, classes] for text. If it
    draws random numbers, modules such as `nn.Dropout` must do it: they are found and seeded, a call of
    `F.dropout` in `forward` is not.

    Attributes:
        name: shown in tables and checked when a checkpoint is resumed.
        build: makes the module, with fresh parameters from torch's global generator.
    """

    name: str
    build: Callable[[], nn.Module]

    def __post_init__(self) -> None:
        if isinstance(self.build, nn.Module):
            raise ValueError(
                f"model {self.name!r}: build is a {type(self.build).__name__}; give a function that makes "
                "it, for example lambda: nn.Linear(784, 62), so that it can be made anew from a seed"
            )

    @cached_property
    def module(self) -> nn.Module:
        """The module that runs; its own parameters are never used.

        Raises:
            ValueError: if it keeps running statistics: a client's result would depend on who came before.
        """
        with torch.random.fork_rng(devices=[]):
            module = self.build()
        for title, part in module.named_modules():
            if isinstance(part, nn.modules.batchnorm._NormBase) and part.track_running_stats:
                raise ValueError(
                    f"model {self.name!r}: {type(part).__name__} {title!r} keeps running statistics between "
                    "batches; use GroupNorm, or track_running_stats=False"
                )
        return module

    @cached_property
    def has_dropout(self) -> bool:
        """Whether training draws random numbers."""
        return any(map(draws_random_numbers, self.module.modules()))

    @cached_property
    def num_parameters(self) -> int:
        """How many numbers the model has to learn."""
        return sum(parameter.numel() for parameter in self.module.parameters())

    def init(self, seed: int, dtype: torch.dtype = torch.float32) -> Params:
        """Fresh parameters: a function of `seed` alone."""
        _ = self.module  # built now: built inside torch.func.grad, its tensors would belong to that for ever
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            module = self.build()
        return {name: tensor.detach().to(dtype) for name, tensor in module.named_parameters()}

    def check(self, params: Params, x: Tensor, num_classes: int) -> None:
        """Try the model on one example, so that what does not fit is told before any work.

        Args:
            params: parameters with the names and shapes of `init`.
            x: one example as a batch [1, ...].
            num_classes: number of labels of the data.

        Raises:
            ValueError: if the parameters do not fit the model, or the model does not fit the example.
        """
        shapes = {name: tuple(tensor.shape) for name, tensor in self.module.named_parameters()}
        given = {name: tuple(tensor.shape) for name, tensor in params.items()}
        if given != shapes:
            odd = next(n for n in [*shapes, *given] if shapes.get(n) != given.get(n))
            raise ValueError(
                f"params do not fit the model {self.name!r}: {odd!r} has shape {given.get(odd)}, the model's "
                f"has {shapes.get(odd)}; give model.init(seed) or the params of a run of this model"
            )
        try:
            with torch.no_grad():
                logits = self.apply(params, x.to(next(iter(params.values())).device))
        except (RuntimeError, IndexError, TypeError) as error:
            raise ValueError(
                f"the model {self.name!r} does not read examples of shape {tuple(x.shape[1:])} ({x.dtype}): "
                f"{error}"
            ) from error
        if logits.ndim < 2 or logits.shape[-1] < num_classes:
            raise ValueError(
                f"the model {self.name!r} gives logits of shape {tuple(logits.shape[1:])} for an example; "
                f"the data has {num_classes} classes"
            )

    def apply(self, params: Params, x: Tensor, dropout_seed: int | None = None) -> Tensor:
        """Logits [batch, classes] or [batch, positions, classes].

        Args:
            params: the parameters; floating-point inputs are cast to their type.
            x: inputs [batch, ...].
            dropout_seed: None evaluates without dropout; a number trains with the masks that it fixes.
        """
        if x.is_floating_point():
            x = x.to(next(iter(params.values())).dtype)
        training = dropout_seed is not None
        self.module.train(training)
        if not (training and self.has_dropout):
            return cast(Tensor, functional_call(self.module, params, (x,)))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(cast(int, dropout_seed))
            return cast(Tensor, functional_call(self.module, params, (x,)))

    def loss(self, params: Params, x: Tensor, y: Tensor, dropout_seed: int | None = None) -> Tensor:
        """Mean cross-entropy in nats over all labels that are not `PADDING`; a scalar.

        Args: as in `apply`; y: labels [batch] or [batch, positions].
        """
        logits = self.apply(params, x, dropout_seed)
        return nn.functional.cross_entropy(logits.flatten(0, -2), y.flatten().long(), ignore_index=PADDING)

    @torch.no_grad()
    def score(self, params: Params, x: Tensor, y: Tensor, chunk: int = 1024) -> tuple[float, int, int]:
        """Summed loss in nats, number of correct predictions and number of predictions, without dropout."""
        totals = [
            score_logits(self.apply(params, x_part).flatten(0, -2), y_part.flatten())
            for x_part, y_part in zip(torch.split(x, chunk), torch.split(y, chunk), strict=True)
        ]
        loss, correct, count = (float(sum(column)) for column in zip(*totals, strict=True))
        return loss, int(correct), int(count)


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


# --- handwriting: inputs [batch, 28, 28] in [0, 1] -----------------------------------------------------


def _pixels(data: FederatedDataset, least: int) -> tuple[int, int]:
    """Height and width of a data set's grey images.

    Raises:
        ValueError: if its examples are not grey images with one label each, at least `least` pixels wide.
    """
    _check_one_label(data)
    if data.x.ndim != 3 or not data.x.dtype.kind == "f":
        raise ValueError(
            f"{data.name!r} has examples of shape {data.x.shape[1:]} ({data.x.dtype}); this model reads "
            "grey images [height, width] of floats. For pixels [1, height, width] give x[:, 0], for whole "
            'numbers (x / 255).astype("float32"); for text use char_mlp or char_lstm'
        )
    if min(data.x.shape[1:]) < least:
        raise ValueError(
            f"{data.name!r} has images of shape {data.x.shape[1:]}; this model needs {least}×{least} or more"
        )
    return int(data.x.shape[1]), int(data.x.shape[2])


def colour_pixels(data: FederatedDataset, least: int) -> tuple[int, int]:
    """Height and width of a data set's colour images.

    Raises:
        ValueError: if its examples are not colour images [3, height, width] of floats with one label each, at
            least `least` pixels wide.
    """
    _check_one_label(data)
    if data.x.ndim != 4 or data.x.shape[1] != 3 or not data.x.dtype.kind == "f":
        raise ValueError(
            f"{data.name!r} has examples of shape {data.x.shape[1:]} ({data.x.dtype}); this model reads "
            "colour images [3, height, width] of floats. For pixels [height, width, 3] give "
            'x.transpose(0, 3, 1, 2), for whole numbers (x / 255).astype("float32")'
        )
    if min(data.x.shape[2:]) < least:
        raise ValueError(
            f"{data.name!r} has images of shape {data.x.shape[2:]}; this model needs {least}×{least} or more"
        )
    return int(data.x.shape[2]), int(data.x.shape[3])


def _check_one_label(data: FederatedDataset) -> None:
    if data.y.ndim != 1:
        raise ValueError(
            f"{data.name!r} has labels of shape {data.y.shape[1:]} for each example; this model gives one "
            "label. For text use char_mlp or char_lstm"
        )


def _check_floats(data: FederatedDataset) -> None:
    if data.x.dtype.kind != "f":
        raise ValueError(
            f"{data.name!r} has examples of type {data.x.dtype}; this model reads floats. Convert them, for "
            'example pixels with (x / 255).astype("float32")'
        )


def logistic(data: FederatedDataset) -> Model:
    """Multinomial logistic regression on flattened inputs of any shape.

    Raises:
        ValueError: if an example has more than one label, or is not of floats.
    """
    _check_one_label(data)
    _check_floats(data)
    features, classes = int(data.x[0].size), data.num_classes
    return Model("logistic", lambda: nn.Sequential(nn.Flatten(), nn.Linear(features, classes)))


def linear_binary(data: FederatedDataset) -> Model:
    """Logistic regression with one output for two classes: 151 parameters for 150 features.

    The logits are [0, w · x + b], so that cross-entropy over them is binary cross-entropy of w · x + b.

    Raises:
        ValueError: if there are more than two classes, several labels for an example, or no floats.
    """
    _check_one_label(data)
    _check_floats(data)
    if data.num_classes != 2:
        raise ValueError(
            f"{data.name!r} has {data.num_classes} classes; linear_binary tells two apart, use logistic"
        )
    features = int(data.x[0].size)
    return Model(
        "linear_binary", lambda: nn.Sequential(nn.Flatten(), nn.Linear(features, 1), nn.ZeroPad1d((1, 0)))
    )


def mlp(data: FederatedDataset, hidden: int = 200, activation: Callable[[], nn.Module] = nn.ReLU) -> Model:
    """Two hidden layers of `hidden` units, rectified by default, on flattened inputs of any shape.

    Raises:
        ValueError: if an example has more than one label, or is not of floats.
    """
    _check_one_label(data)
    _check_floats(data)
    features, classes = int(data.x[0].size), data.num_classes
    return Model(
        "mlp" if activation is nn.ReLU else f"mlp of {activation().__class__.__name__.lower()}",
        lambda: nn.Sequential(
            nn.Flatten(),
            nn.Linear(features, hidden),
            activation(),
            nn.Linear(hidden, hidden),
            activation(),
            nn.Linear(hidden, classes),
        ),
    )


def small_cnn(data: FederatedDataset) -> Model:
    """Two strided convolutions and one linear layer: a CNN for laptops (strides instead of pooling)."""
    height, width = _pixels(data, 1)
    flat = 32 * (-(-height // 4)) * (-(-width // 4))
    return Model(
        "small_cnn",
        lambda: nn.Sequential(
            nn.Unflatten(1, (1, height)),
            nn.Conv2d(1, 16, 5, stride=2, padding=2),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(flat, data.num_classes),
        ),
    )


def colour_cnn(data: FederatedDataset) -> Model:
    """`small_cnn` for colour images [3, height, width]: 26,346 parameters for CIFAR-10.

    Raises:
        ValueError: if the examples are not colour images of floats with one label each.
    """
    height, width = colour_pixels(data, 1)
    flat = 32 * (-(-height // 4)) * (-(-width // 4))
    return Model(
        "colour_cnn",
        lambda: nn.Sequential(
            nn.Conv2d(3, 16, 5, stride=2, padding=2),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(flat, data.num_classes),
        ),
    )


def emnist_cnn(data: FederatedDataset) -> Model:
    """The paper's CNN for EMNIST-62: 1,206,590 parameters for 62 classes and 28×28 pixels.

    Source: second-hand, from Google's code of March 2020 that follows the paper (dropout .25 and .5).
    """
    height, width = _pixels(data, 6)
    flat = 64 * ((height - 4) // 2) * ((width - 4) // 2)
    return Model(
        "emnist_cnn",
        lambda: nn.Sequential(
            nn.Unflatten(1, (1, height)),
            nn.Conv2d(1, 32, 3),
            nn.ReLU(),
            nn.Conv2d(32, 64, 3),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Dropout(0.25),
            nn.Flatten(),
            nn.Linear(flat, 128),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Linear(128, data.num_classes),
        ),
    )


def fedem_cnn(data: FederatedDataset) -> Model:
    """FedEM's CNN for FEMNIST (Marfoq et al. 2021): 2,278,334 parameters for 62 classes and 28×28 pixels."""
    height, width = _pixels(data, 16)
    flat = 64 * (((height - 4) // 2 - 4) // 2) * (((width - 4) // 2 - 4) // 2)
    return Model(
        "fedem_cnn",
        lambda: nn.Sequential(
            nn.Unflatten(1, (1, height)),
            nn.Conv2d(1, 32, 5),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(32, 64, 5),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(flat, 2048),
            nn.ReLU(),
            nn.Linear(2048, data.num_classes),
        ),
    )


# --- text: inputs [batch, positions], one whole number per character ------------------------------------


class Blanks(nn.Module):
    """Puts `count` times the character `blank` before each line."""

    def __init__(self, count: int, blank: int) -> None:
        super().__init__()
        self.count, self.blank = count, blank

    def forward(self, x: Tensor) -> Tensor:
        """Characters [batch, positions] to [batch, count + positions]."""
        return nn.functional.pad(x.long(), (self.count, 0), value=self.blank)


class Windows(nn.Module):
    """Each position's features and those of the `context` − 1 positions before it, side by side."""

    def __init__(self, context: int) -> None:
        super().__init__()
        self.context = context

    def forward(self, x: Tensor) -> Tensor:
        """Features [batch, context − 1 + positions, n] to [batch, positions, n · context]."""
        return x.unfold(1, self.context, 1).flatten(2)


class CharLSTM(nn.Module):
    """Two LSTM layers over the characters of a line, with a prediction at every position."""

    def __init__(self, num_classes: int, embedding: int, hidden: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(num_classes, embedding)
        self.lstm = nn.LSTM(embedding, hidden, num_layers=2, batch_first=True)
        self.output = nn.Linear(hidden, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Characters [batch, positions] to logits [batch, positions, num_classes]."""
        states, _ = self.lstm(self.embed(x.long()))
        return cast(Tensor, self.output(states))


def _check_text(data: FederatedDataset) -> None:
    if data.x.ndim != 2 or data.x.dtype.kind not in "iu" or data.y.shape != data.x.shape:
        raise ValueError(
            f"{data.name!r} has examples of shape {data.x.shape[1:]} ({data.x.dtype}); this model reads text "
            "as whole numbers [positions] with a label at every position. For images use mlp or small_cnn"
        )
    if int(data.x.max()) >= data.num_classes:
        raise ValueError(
            f"{data.name!r} has the character code {data.x.max()} in x, but only {data.num_classes} classes"
        )


def char_mlp(data: FederatedDataset, context: int = 8, embedding: int = 16, hidden: int = 128) -> Model:
    """An MLP over a window of `context` characters: next-character prediction for laptops.

    The last class stands for "no character yet", as in `load_shakespeare`.

    Raises:
        ValueError: if the data set is not text.
    """
    _check_text(data)
    classes = data.num_classes

    def build() -> nn.Module:
        return nn.Sequential(
            OrderedDict(
                blanks=Blanks(context - 1, blank=classes - 1),
                embed=nn.Embedding(classes, embedding),
                windows=Windows(context),
                hidden=nn.Linear(context * embedding, hidden),
                activation=nn.Tanh(),
                output=nn.Linear(hidden, classes),
            )
        )

    return Model("char_mlp", build)


def char_lstm(data: FederatedDataset, embedding: int = 8, hidden: int = 256) -> Model:
    """The two-layer LSTM of the Shakespeare benchmarks: 825,220 parameters with 100 characters.

    Raises:
        ValueError: if the data set is not text.
    """
    _check_text(data)
    return Model("char_lstm", lambda: CharLSTM(data.num_classes, embedding, hidden))
