"""The usual way of local training in PyTorch, run by `plain` and `flower`; independent of `fl_meta`."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset


class CharMLP(nn.Module):
    """Predict each character from the eight before it."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(num_classes, 16)
        self.hidden = nn.Linear(8 * 16, 128)
        self.output = nn.Linear(128, num_classes)
        self.blank = num_classes - 1

    def forward(self, x: Tensor) -> Tensor:
        """Characters [batch, positions] to logits [batch, positions, classes]."""
        windows = self.embed(nn.functional.pad(x, (7, 0), value=self.blank)).unfold(1, 8, 1).flatten(2)
        logits: Tensor = self.output(torch.tanh(self.hidden(windows)))
        return logits


class CharLSTM(nn.Module):
    """Two LSTM layers that predict at every position."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(num_classes, 8)
        self.lstm = nn.LSTM(8, 256, num_layers=2, batch_first=True)
        self.output = nn.Linear(256, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Characters [batch, positions] to logits [batch, positions, classes]."""
        logits: Tensor = self.output(self.lstm(self.embed(x))[0])
        return logits


def build(model: str, num_classes: int) -> nn.Module:
    """The module of that name, with `fl_meta`'s names of parameters and without dropout."""
    if model == "logistic":
        return nn.Sequential(nn.Flatten(), nn.Linear(784, num_classes))
    if model == "mlp":
        hidden = (nn.Linear(784, 200), nn.ReLU(), nn.Linear(200, 200), nn.ReLU())
        return nn.Sequential(nn.Flatten(), *hidden, nn.Linear(200, num_classes))
    if model == "emnist_cnn":
        return nn.Sequential(
            nn.Unflatten(1, (1, 28)),
            nn.Conv2d(1, 32, 3),
            nn.ReLU(),
            nn.Conv2d(32, 64, 3),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Identity(),
            nn.Flatten(),
            nn.Linear(9216, 128),
            nn.ReLU(),
            nn.Identity(),
            nn.Linear(128, num_classes),
        )
    return {"char_mlp": CharMLP, "char_lstm": CharLSTM}[model](num_classes)


def train_client(
    module: nn.Module, examples: TensorDataset, batches: list[list[int]], learning_rate: float
) -> None:
    """One client's local training of `module`, in place, on the planned batches."""
    optimizer = torch.optim.SGD(module.parameters(), lr=learning_rate)
    for x, y in DataLoader(examples, batch_sampler=batches):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(module(x).flatten(0, -2), y.flatten())
        loss.backward()
        optimizer.step()
