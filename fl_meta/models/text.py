"""Models for text: next-character prediction."""

from __future__ import annotations

from collections import OrderedDict
from typing import cast

from torch import Tensor, nn

from fl_meta.data.federated import FederatedDataset
from fl_meta.models.model import Model


class Blanks(nn.Module):
    """Puts `count` copies of the character `blank` before each line."""

    def __init__(self, count: int, blank: int) -> None:
        super().__init__()
        self.count, self.blank = count, blank

    def forward(self, x: Tensor) -> Tensor:
        """Characters [batch, positions] to [batch, count + positions]."""
        return nn.functional.pad(x.long(), (self.count, 0), value=self.blank)


class Windows(nn.Module):
    """Joins the features of each position with those of the `context` − 1 positions before it."""

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
