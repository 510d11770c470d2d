"""MobileNet-v2: its size, shapes and blocks, and that both engines train it."""

import numpy as np
import pytest
import torch
from tiny_tasks import one_round

from fl_meta.algorithms.optimizers import SGD
from fl_meta.algorithms.table import fedavg
from fl_meta.data.federated import FederatedDataset
from fl_meta.models.mobilenet import InvertedResidual, mobilenet_v2
from fl_meta.models.parameters import relative_error


def colours(classes: int = 10, height: int = 32, width: int = 32) -> FederatedDataset:
    """Two clients of three train examples."""
    x = np.random.default_rng(0).random((8, 3, height, width), dtype=np.float32)
    owners = ["ann"] * 4 + ["bob"] * 4
    return FederatedDataset.from_arrays(x, np.arange(8) % classes, owners, num_classes=classes)


def block(inputs: int, outputs: int, expansion: int) -> int:
    """Parameters of a block by hand: two per channel in each normalization, no biases."""
    hidden = expansion * inputs
    widen = inputs * hidden + 2 * hidden if expansion > 1 else 0
    return widen + (9 * hidden + 2 * hidden) + (hidden * outputs + 2 * outputs)


def test_number_of_parameters_by_hand() -> None:
    blocks = [
        block(32, 16, 1),
        *(block(16, 24, 6), block(24, 24, 6)),
        *(block(24, 32, 6), 2 * block(32, 32, 6)),
        *(block(32, 64, 6), 3 * block(64, 64, 6)),
        *(block(64, 96, 6), 2 * block(96, 96, 6)),
        *(block(96, 160, 6), 2 * block(160, 160, 6)),
        block(160, 320, 6),
    ]
    features = (27 * 32 + 64) + sum(blocks) + (320 * 1280 + 2560)
    assert mobilenet_v2(colours()).num_parameters == features + 1281 * 10 == 2_236_682
    # The number that is published for the network with BatchNorm and ImageNet's 1,000 classes.
    assert mobilenet_v2(colours(1000)).num_parameters == 3_504_872


def test_32_pixels_are_4_before_the_average() -> None:
    module = mobilenet_v2(colours()).build().eval()
    sizes, x = [], torch.rand(2, 3, 32, 32)
    for part in module:
        x = part(x)
        if x.ndim == 4 and (not sizes or sizes[-1] != tuple(x.shape[1:])):
            sizes.append(tuple(x.shape[1:]))
    assert sizes == [
        *((32, 32, 32), (16, 32, 32), (24, 32, 32), (32, 16, 16), (64, 8, 8)),
        *((96, 8, 8), (160, 4, 4), (320, 4, 4), (1280, 4, 4), (1280, 1, 1)),
    ]
    assert x.shape == (2, 10)


@pytest.mark.parametrize("size", [(8, 8), (28, 28), (33, 40)])
def test_images_of_other_sizes_fit(size: tuple[int, int]) -> None:
    data = colours(5, *size)
    model = mobilenet_v2(data, width=0.25)
    assert model.apply(model.init(0), torch.from_numpy(data.x)).shape == (8, 5)


def test_channels_are_multiples_of_8_near_the_wanted_width() -> None:
    # 0.35 · (32, 16, 24, 32, 64, 96, 160, 320) = 11.2, 5.6, 8.4, 11.2, 22.4, 33.6, 56, 112: the nearest
    # multiple, or the next where it would take away more than a tenth.
    module = mobilenet_v2(colours(), width=0.35).module
    wide = [part.out_channels for part in module.modules() if isinstance(part, torch.nn.Conv2d)]
    assert wide[0] == 16
    assert set(wide[2::3]) == {8, 16, 24, 32, 56, 112}
    assert wide[-1] == 1280
    assert mobilenet_v2(colours(), width=1.4).build()[-1].in_features == 1792
    assert mobilenet_v2(colours(), 0.35).name == "mobilenet_v2 × 0.35"


def test_a_block_of_the_same_shape_adds_its_inputs() -> None:
    x = torch.rand(2, 16, 4, 4)
    for outputs, stride, adds in ((16, 1, True), (16, 2, False), (24, 1, False)):
        part = InvertedResidual(16, outputs, stride, 6)
        torch.nn.init.zeros_(part.layers[-1].weight)
        torch.nn.init.zeros_(part.layers[-1].bias)
        y = part(x)
        assert torch.equal(y, x) if adds else not y.any()
        assert y.shape == (2, outputs, 4 // stride, 4 // stride)


def test_an_example_does_not_see_the_others_of_its_batch() -> None:
    data = colours(height=16, width=16)
    model = mobilenet_v2(data, width=0.25)
    params, x = model.init(0, torch.float64), torch.from_numpy(data.x)
    torch.testing.assert_close(model.apply(params, x)[:1], model.apply(params, x[:1]))


def test_both_engines_take_the_same_steps() -> None:
    data = colours(height=16, width=16)
    model = mobilenet_v2(data, width=0.25)
    params = model.init(0, torch.float64)
    algorithm = fedavg(2, client=SGD(0.05, momentum=0.9), batch_size=2)
    (expected, _), (found, info) = (
        one_round(engine, model, params, data, algorithm) for engine in ("loop", "stacked")
    )
    assert info.local_gradients == 8
    assert relative_error(found, expected) < 1e-10
    assert all(tensor.abs().max() > 0 for tensor in found.values())


def test_one_step_of_the_full_network_lowers_the_loss() -> None:
    data = colours(height=16, width=16)
    model = mobilenet_v2(data)
    params, x, y = model.init(0), torch.from_numpy(data.x), torch.from_numpy(data.y)
    loss = model.loss(params, x, y)
    gradient = torch.func.grad(model.loss)(params, x, y)
    stepped = {name: tensor - 0.02 * gradient[name] for name, tensor in params.items()}
    assert model.loss(stepped, x, y) < loss - 0.01


@pytest.mark.parametrize("bad", [0, -1.0, float("nan"), float("inf")])
def test_widths_that_cannot_be(bad: float) -> None:
    with pytest.raises(ValueError, match=f"width={bad} must be"):
        mobilenet_v2(colours(), width=bad)


def test_other_examples_are_refused(tiny_images: FederatedDataset) -> None:
    with pytest.raises(ValueError, match=r"'tiny images' has examples of shape \(8, 8\)"):
        mobilenet_v2(tiny_images)
    with pytest.raises(ValueError, match=r"images of shape \(4, 4\); this model needs 8×8"):
        mobilenet_v2(colours(height=4, width=4))
