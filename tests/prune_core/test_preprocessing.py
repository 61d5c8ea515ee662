import numpy as np
import pytest
import torch

from prune_core import preprocessing
from prune_core.images import LabelledImages
from prune_core.preprocessing import Preprocessing


def test_mean_and_deviation_are_those_of_each_colour():
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (50, 3, 32, 32), generator=generator)
    images[:, 1] //= 3
    images[:, 2] = images[:, 2] // 2 + 100
    images = images.to(torch.uint8)
    pixels = images.numpy().astype(np.float64)
    scaling = Preprocessing.of(images)
    assert scaling.mean == pytest.approx(pixels.mean(axis=(0, 2, 3)), rel=1e-12)
    assert scaling.deviation == pytest.approx(pixels.std(axis=(0, 2, 3)), rel=1e-9)
    scaled = scaling(images)
    assert scaled.dtype is torch.float32
    assert scaled.is_contiguous(memory_format=torch.channels_last)
    expected = (pixels - pixels.mean(axis=(0, 2, 3), keepdims=True)) / pixels.std(
        axis=(0, 2, 3), keepdims=True
    )
    np.testing.assert_allclose(scaled.numpy(), expected, atol=1e-5)


def test_images_are_counted_in_parts(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 200, (53, 3, 9, 12), generator=generator).to(torch.uint8)
    index = torch.randperm(53, generator=generator)[:37]
    selected = LabelledImages(images, torch.zeros(37, dtype=torch.int64), index)
    whole = Preprocessing.of(images[index])
    assert Preprocessing.of(selected) == whole
    monkeypatch.setattr(preprocessing, "_PART", 10)
    assert Preprocessing.of(selected) == Preprocessing.of(images[index]) == whole
    pixels = images[index].double()
    assert whole.mean == pytest.approx(pixels.mean(dim=(0, 2, 3)).tolist(), rel=1e-12)


def test_sums_do_not_overflow():
    # 255^2 * 1.6e6 pixels is above 2^36: sums in int32 or fp32 would be wrong.
    images = torch.full((1600, 3, 32, 32), 255, dtype=torch.uint8)
    images[:800] = 253
    scaling = Preprocessing.of(images)
    assert scaling.mean == pytest.approx((254, 254, 254), rel=1e-12)
    assert scaling.deviation == pytest.approx((1, 1, 1), rel=1e-9)


def test_a_colour_that_never_changes_is_not_divided_by_zero():
    images = torch.full((4, 3, 32, 32), 7, dtype=torch.uint8)
    images[:, 0, 0, 0] = torch.tensor([1, 2, 3, 4], dtype=torch.uint8)
    scaling = Preprocessing.of(images)
    assert scaling.deviation[1:] == (1.0, 1.0)
    assert scaling(images).isfinite().all()
    assert not scaling(images)[:, 1:].any()
