import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from prune_core.network_files import NetworkFileError, load, save
from prune_core.networks import Architecture
from prune_core.surgery import prune
from prune_core.training import Recipe, train


@pytest.fixture
def stored(tmp_path, small, lived_in, scaling):
    net = lived_in(small)
    save(net, scaling, tmp_path)
    return net, tmp_path


def same_logits(net, folder):
    images = torch.randn(4, 3, 32, 32)
    with torch.no_grad():
        return torch.equal(net.eval()(images), load(folder).net(images))


def test_a_stored_network_gives_the_same_logits(stored, scaling):
    net, folder = stored
    found = load(folder)
    assert same_logits(net, folder)
    assert found.preprocessing == scaling
    assert found.net.architecture == net.architecture
    assert not found.net.training
    assert {path.name for path in folder.iterdir()} == {"network.json", "network.safetensors"}


@pytest.mark.parametrize("variant", ["simplenet_310k", "simplenet_460k"])
def test_a_stored_full_size_network_gives_the_same_logits(tmp_path, lived_in, scaling, variant):
    net = lived_in(Architecture.named(variant, 10))
    save(net, scaling, tmp_path)
    assert same_logits(net, tmp_path)


def test_a_pruned_network_gives_the_same_logits(tmp_path, small, lived_in, coloured, scaling):
    net = lived_in(small)
    train(net, coloured(32), scaling, Recipe(1, 16), seed=0, flip_keeps_label=True)
    pruned = prune(net, [torch.tensor([1, 4]), torch.arange(3), torch.arange(5), torch.arange(2)])
    save(pruned, scaling, tmp_path)
    assert same_logits(pruned, tmp_path)


def test_class_names_are_kept_and_absent_ones_stay_absent(stored, scaling):
    net, folder = stored
    assert load(folder).class_names is None
    names = ("äpfel", "a\nb", "", "dog")
    save(net, scaling, folder, names)
    assert load(folder).class_names == names


def test_names_for_other_classes_are_refused(stored, scaling):
    net, folder = stored
    before = {path: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(ValueError, match="3 class names for a network of 4 classes"):
        save(net, scaling, folder, ["a", "b", "c"])
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_the_same_network_gives_the_same_files(stored, scaling, tmp_path_factory):
    _, folder = stored
    again = tmp_path_factory.mktemp("again")
    save(load(folder).net, scaling, again)
    for path in folder.iterdir():
        assert path.read_bytes() == (again / path.name).read_bytes()


def test_loading_draws_no_random_numbers(stored):
    state = torch.get_rng_state()
    load(stored[1])
    assert torch.equal(torch.get_rng_state(), state)


def rewritten(path, change):
    """Changes the description and removes its checksum, as in files of the first version."""
    description = json.loads(path.read_text())
    del description["sha256"]
    change(description)
    path.write_text(json.dumps(description))


def without_a_tensor(folder):
    path = folder / "network.safetensors"
    tensors = load_file(path)
    del tensors["blocks.1.bn.running_var"]
    save_file(tensors, path)
    rewritten(folder / "network.json", lambda _: None)


def test_a_network_of_the_first_version_is_read(stored):
    net, folder = stored
    rewritten(folder / "network.json", lambda _: None)
    assert same_logits(net, folder)


def every_flip(path):
    """The content with one bit flipped, in about 200 places over the whole file in turn."""
    whole = path.read_bytes()
    for at in range(0, len(whole), max(1, len(whole) // 200)):
        yield whole[:at] + bytes([whole[at] ^ 1 << at % 8]) + whole[at + 1 :]


@pytest.mark.parametrize("name", ["network.json", "network.safetensors"])
def test_a_flipped_bit_never_changes_the_network(stored, name):
    net, folder = stored
    path = folder / name
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        expected = net(images)
    refused = 0
    for content in every_flip(path):
        path.write_bytes(content)
        try:
            found = load(folder)
        except NetworkFileError:
            refused += 1
            continue
        # A flip in white space of the description may keep its meaning.
        with torch.no_grad():
            assert torch.equal(found.net(images), expected)
    assert refused > 150


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "network.json").unlink(),
        lambda folder: (folder / "network.safetensors").unlink(),
        lambda folder: (folder / "network.json").write_text("{"),
        lambda folder: (folder / "network.json").write_text("[]"),
        lambda folder: (folder / "network.json").write_bytes(b"\xff\xfe\x00"),
        lambda folder: (folder / "network.safetensors").write_bytes(b""),
        lambda folder: (folder / "network.safetensors").write_bytes(
            (folder / "network.safetensors").read_bytes()[:-100]
        ),
        without_a_tensor,
        lambda folder: rewritten(folder / "network.json", lambda d: d.pop("architecture")),
        lambda folder: rewritten(
            folder / "network.json", lambda d: d["architecture"].update(classes=5)
        ),
        lambda folder: rewritten(
            folder / "network.json", lambda d: d["architecture"].update(widths=["a"])
        ),
        lambda folder: rewritten(
            folder / "network.json", lambda d: d["preprocessing"].update(mean=[1.0])
        ),
        lambda folder: rewritten(folder / "network.json", lambda d: d.update(sha265="0")),
        lambda folder: rewritten(folder / "network.json", lambda d: d.update(class_names="abcd")),
    ],
)
def test_a_damaged_folder_is_refused_by_name(stored, damage):
    _, folder = stored
    damage(folder)
    with pytest.raises(NetworkFileError, match=str(folder)):
        load(folder)


def test_an_absent_folder_is_refused_by_name(tmp_path):
    with pytest.raises(NetworkFileError, match="nowhere"):
        load(tmp_path / "nowhere")
