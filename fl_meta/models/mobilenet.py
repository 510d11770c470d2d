"""MobileNet-v2 (Sandler et al. 2018) for small colour images, from our own definition and untrained."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

from fl_meta.data.federated import FederatedDataset
from fl_meta.models.images import image_size
from fl_meta.models.model import Model

# Of each stage: how often a block widens its inputs, channels, blocks, stride of the first block. Table 2 of
# Sandler et al., but for the stride of the second stage, which there is 2.
STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 1),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


class InvertedResidual(nn.Module):
    """Widen, filter each channel, narrow; the inputs are added where the shape stays the same."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        self.adds = stride == 1 and inputs == outputs
        self.layers = nn.Sequential(
            *(_convolution(inputs, hidden, 1) if expansion > 1 else []),
            *_convolution(hidden, hidden, 3, stride, groups=hidden),
            *_convolution(hidden, outputs, 1)[:-1],  # what was narrowed is not rectified
        )

    def forward(self, x: Tensor) -> Tensor:
        """[batch, inputs, height, width] to [batch, outputs, height / stride, width / stride]."""
        y = cast(Tensor, self.layers(x))
        return x + y if self.adds else y


def _convolution(inputs: int, outputs: int, size: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    return [
        nn.Conv2d(inputs, outputs, size, stride, padding=size // 2, groups=groups, bias=False),
        nn.GroupNorm(outputs // 8, outputs),
        nn.ReLU6(),
    ]


def _rounded(channels: float) -> int:
    """The nearest multiple of 8 that takes away at most a tenth, as in the authors' code."""
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest if nearest >= 0.9 * channels else nearest + 8


def mobilenet_v2(data: FederatedDataset, width: float = 1.0) -> Model:
    """MobileNet-v2 for colour images of 32×32 pixels or so: 2,236,682 parameters for 10 classes.

    It differs from the network of Sandler et al. and of FedEM (Marfoq et al. 2021) in three ways. It is not
    pre-trained. Its normalization is GroupNorm with 8 channels per group instead of BatchNorm: running
    statistics are no parameters, and those of clients whose data differ cannot be averaged; the number of
    parameters stays the same. The first convolution and the second stage have stride 1 instead of 2, as is
    usual for small images: 32×32 pixels are 4×4 before the average, not 1×1.

    Args:
        data: colour images [examples, 3, height, width] of floats.
        width: multiplies the number of channels; 0.25 is much cheaper. The last layer has at least 1280.

    Raises:
        ValueError: if `data` has other examples, or `width` is not above 0 and finite.
    """
    image_size(data, 3, 8)
    if not 0 < width < float("inf"):
        raise ValueError(f"width={width} must be a finite number above 0; 1 is the full network")
    head = _rounded(1280 * max(1.0, width))

    def build() -> nn.Module:
        channels = _rounded(32 * width)
        layers = _convolution(3, channels, 3)
        for expansion, outputs, blocks, stride in STAGES:
            for block in range(blocks):
                inputs, channels = channels, _rounded(outputs * width)
                layers.append(InvertedResidual(inputs, channels, stride if block == 0 else 1, expansion))
        layers += [*_convolution(channels, head, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
        return nn.Sequential(*layers, nn.Dropout(0.2), nn.Linear(head, data.num_classes))

    return Model("mobilenet_v2" if width == 1 else f"mobilenet_v2 × {width:g}", build)
