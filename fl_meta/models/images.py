"""Models for images and other examples with one label."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from fl_meta.data.federated import FederatedDataset
from fl_meta.models.model import Model

# What messages call images with so many channels, their shape, and how to convert others.
_IMAGES = {
    1: (
        "grey images [height, width]",
        "For pixels [1, height, width] give x[:, 0], for whole numbers "
        '(x / 255).astype("float32"); for text use char_mlp or char_lstm',
    ),
    3: (
        "colour images [3, height, width]",
        "For pixels [height, width, 3] give x.transpose(0, 3, 1, 2), for whole numbers "
        '(x / 255).astype("float32")',
    ),
}


def image_size(data: FederatedDataset, channels: int, least: int) -> tuple[int, int]:
    """Height and width of a data set's images.

    Raises:
        ValueError: if its examples are not images of floats with so many channels (1 or 3) and one label
            each, at least `least` pixels wide.
    """
    _check_one_label(data)
    shape = data.x.shape[1:]
    fits = len(shape) == 2 if channels == 1 else len(shape) == 3 and shape[0] == channels
    if not fits or data.x.dtype.kind != "f":
        images, conversion = _IMAGES[channels]
        raise ValueError(
            f"{data.name!r} has examples of shape {shape} ({data.x.dtype}); this model reads {images} of "
            f"floats. {conversion}"
        )
    height, width = (int(size) for size in shape[-2:])
    if min(height, width) < least:
        raise ValueError(
            f"{data.name!r} has images of shape {shape[-2:]}; this model needs {least}×{least} or more"
        )
    return height, width


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

    Example:
        >>> model = fl_meta.models.logistic(fl_meta.load_dataset("writers"))
        >>> model.num_parameters
        48670

    Raises:
        ValueError: if an example has more than one label, or does not consist of floats.
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


def _strided_cnn(name: str, data: FederatedDataset, channels: int) -> Model:
    height, width = image_size(data, channels, 1)
    flat = 32 * (-(-height // 4)) * (-(-width // 4))
    return Model(
        name,
        lambda: nn.Sequential(
            *([nn.Unflatten(1, (1, height))] if channels == 1 else []),
            nn.Conv2d(channels, 16, 5, stride=2, padding=2),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(flat, data.num_classes),
        ),
    )


def small_cnn(data: FederatedDataset) -> Model:
    """Two strided convolutions and one linear layer: a CNN for laptops (strides instead of pooling).

    Raises:
        ValueError: if the examples are not grey images of floats with one label each.
    """
    return _strided_cnn("small_cnn", data, channels=1)


def colour_cnn(data: FederatedDataset) -> Model:
    """`small_cnn` for colour images [3, height, width]: 26,346 parameters for CIFAR-10.

    Raises:
        ValueError: if the examples are not colour images of floats with one label each.
    """
    return _strided_cnn("colour_cnn", data, channels=3)


def emnist_cnn(data: FederatedDataset) -> Model:
    """The paper's CNN for EMNIST-62: 1,206,590 parameters for 62 classes and 28×28 pixels.

    Source: second-hand, from Google's code of March 2020 that follows the paper (dropout .25 and .5).
    """
    height, width = image_size(data, 1, 6)
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
    height, width = image_size(data, 1, 16)
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
