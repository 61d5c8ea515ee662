"""One line loads a network that takes uint8 images, as files hold them."""

import pytest
import torch

import prune_core
from prune_core.network_files import NetworkFileError, save

NAMES = ("ant", "bee", "cat", "dog")


@pytest.fixture
def folder(tmp_path, small, lived_in, scaling):
    save(lived_in(small), scaling, tmp_path, NAMES)
    return tmp_path


def test_logits_are_the_same_as_in_evaluation(folder, small, lived_in, scaling, coloured):
    images = coloured(7).images
    net = prune_core.load(str(folder))
    with torch.inference_mode():
        assert torch.equal(net(images), lived_in(small)(scaling(images)))
    assert not net.training
    assert net.class_names == NAMES


def test_classes_without_names_are_numbers(folder, small, lived_in, scaling):
    save(lived_in(small), scaling, folder)
    assert prune_core.load(folder).class_names == ("0", "1", "2", "3")


@pytest.mark.parametrize(
    ("images", "error", "words"),
    [
        (torch.rand(2, 3, 32, 32), TypeError, "torch.float32.*uint8.*0 to 255"),
        (torch.zeros(2, 3, 32, 32, dtype=torch.int64), TypeError, "int64.*uint8"),
        (torch.zeros(3, 32, 32, dtype=torch.uint8), ValueError, r"\[3, 32, 32\].*\[None\]"),
        (torch.zeros(2, 32, 32, 3, dtype=torch.uint8), ValueError, r"\[2, 32, 32, 3\]"),
        (torch.zeros(2, 1, 32, 32, dtype=torch.uint8), ValueError, r"\[N, 3, 32, 32\]"),
        (torch.zeros(2, 3, 28, 28, dtype=torch.uint8), ValueError, r"28, 28"),
    ],
)
def test_images_that_would_be_misread_are_refused(folder, images, error, words):
    with pytest.raises(error, match=words):
        prune_core.load(folder)(images)


def test_a_damaged_folder_is_refused_by_name(folder):
    path = folder / "network.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(NetworkFileError, match=str(folder)):
        prune_core.load(folder)
