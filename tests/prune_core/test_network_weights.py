"""A person's own checkpoint: what is read, and what does not fit a network."""

from collections import OrderedDict

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from prune_core.networks.errors import ArchitectureError
from prune_core.networks.weights import load_weights, read_weights, weights_fingerprint


def network(width: int = 4, classes: int = 3, seed: int = 0) -> nn.Sequential:
    """A network of two convolutions with values in all its tensors."""
    torch.manual_seed(seed)
    net = nn.Sequential(
        OrderedDict(
            conv=nn.Conv2d(3, width, 3),
            bn=nn.BatchNorm2d(width),
            last=nn.Conv2d(width, width, 1, bias=False),
            flat=nn.Flatten(),
            fc=nn.Linear(width, classes),
        )
    )
    net(torch.rand(8, 3, 3, 3))
    return net.to(memory_format=torch.channels_last)


def fingerprint(path):
    return weights_fingerprint(read_weights(path))


def without_counters(state):
    return {name: value for name, value in state.items() if "num_batches" not in name}


def assert_equal(net, other):
    state, expected = net.state_dict(), other.state_dict()
    assert state.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(state[name], value, rtol=0, atol=0)


@pytest.fixture
def state():
    return network().state_dict()


@pytest.fixture
def save(tmp_path):
    """Saves the content of a torch file."""

    def to(content, name="weights.pt", **options):
        torch.save(content, tmp_path / name, **options)
        return tmp_path / name

    return to


WAYS = {
    "the state dict": lambda state: state,
    "under state_dict": lambda state: {"epoch": 3, "arch": "net", "state_dict": state},
    "under model": lambda state: {"optimizer": {"state": {}}, "model": state},
    "under net": lambda state: {"net": state, "acc": 91.2},
    "under model_state_dict": lambda state: {"model_state_dict": state, "model": "resnet"},
    "twice": lambda state: {"model": {"state_dict": state}},
    "of DataParallel": lambda state: {f"module.{name}": value for name, value in state.items()},
    "compiled": lambda state: {f"_orig_mod.{name}": value for name, value in state.items()},
    "both": lambda state: {
        "model": {f"module._orig_mod.{name}": value for name, value in state.items()}
    },
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_torch_files_as_training_scripts_write_them(state, save, way):
    path = save(way(state))
    net = network(seed=1)
    load_weights(net, read_weights(path), "weights.pt")
    assert_equal(net, network())
    assert fingerprint(path) == fingerprint(save(state, "plain.pt"))


def test_every_format_of_the_same_tensors_has_one_fingerprint(state, save, tmp_path):
    first = fingerprint(save(state))
    assert len(first) == 16
    int(first, 16)
    old = save(state, "old.pt", _use_new_zipfile_serialization=False)
    safe = tmp_path / "weights"  # The suffix of a file says nothing.
    save_file({name: value.contiguous() for name, value in state.items()}, safe)
    assert fingerprint(old) == fingerprint(safe) == first
    backwards = dict(reversed(without_counters(state).items()))
    assert fingerprint(save(backwards, "backwards.pt")) == first
    wrapped = {f"module.{name}": value for name, value in backwards.items()}
    save_file({name: value.contiguous() for name, value in wrapped.items()}, safe)
    assert fingerprint(safe) == first
    for path in (old, safe):
        net = network(seed=1)
        load_weights(net, read_weights(path), "weights")
        torch.testing.assert_close(
            without_counters(net.state_dict()), without_counters(state), rtol=0, atol=0
        )


@pytest.mark.parametrize(
    "change",
    [
        lambda state: state["bn.running_var"][1].add_(1e-6),
        lambda state: state.update({"fc.bias": state["fc.bias"].view(torch.int32)}),
        lambda state: state.update({"fc.weight": state["fc.weight"].reshape(4, 3)}),
        lambda state: state.update({"head.bias": state.pop("fc.bias")}),
        lambda state: state.pop("fc.bias"),
    ],
    ids=["value", "dtype", "shape", "name", "number"],
)
def test_the_fingerprint_changes_with_any_tensor(state, save, change):
    first = fingerprint(save(state))
    change(state)
    assert fingerprint(save(state)) != first


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_floats_of_another_precision_are_converted(save, dtype):
    path = save(network().to(dtype).state_dict())
    net = network(seed=1)
    load_weights(net, read_weights(path), "weights.pt")
    assert_equal(net, network().to(dtype).float())
    assert net.conv.weight.is_contiguous(memory_format=torch.channels_last)
    assert fingerprint(path) != fingerprint(save(network().state_dict()))


def test_counters_of_batches_may_be_absent_or_superfluous(state):
    net = network(seed=1)
    load_weights(net, without_counters(state), "it")
    assert net.bn.num_batches_tracked == 1
    assert torch.equal(net.bn.running_mean, state["bn.running_mean"])
    state["bn.num_batches_tracked"].fill_(7)
    load_weights(net, state, "it")
    assert net.bn.num_batches_tracked == 7
    plain = nn.Sequential(OrderedDict(fc=nn.Linear(4, 3)))
    tensors = {name: state[name] for name in ("fc.weight", "fc.bias", "bn.num_batches_tracked")}
    load_weights(plain, tensors, "it")
    assert torch.equal(plain.fc.weight, state["fc.weight"])


def test_a_network_may_have_a_submodule_of_the_name_of_a_wrapper(save):
    class Outer(nn.Module):
        def __init__(self, seed):
            super().__init__()
            self.module = network(seed=seed)

    path = save(Outer(0).state_dict())
    net = Outer(1)
    load_weights(net, read_weights(path), "weights.pt")
    assert_equal(net, Outer(0))


def renamed(state, **names):
    return {names.get(name.replace(".", "_"), name): value for name, value in state.items()}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda state: renamed(state, fc_bias="head.bias"),
            "it does not fit the network: it lacks fc.bias; the network has no head.bias",
        ),
        (
            lambda state: {},
            "it lacks conv.weight, conv.bias, bn.weight and 6 more",
        ),
        (
            lambda state: {**state, **{f"more.{n}": torch.ones(1) for n in range(4)}},
            "the network has no more.0, more.1, more.2 and 1 more",
        ),
        (
            lambda state: {**state, "bn.bias": torch.ones(5)},
            "it does not fit the network: shapes differ: bn.bias [5] for [4]",
        ),
        (
            lambda state: network(classes=7).state_dict(),
            "it does not fit the network: it has 7 classes, but the network has 3 (fc)",
        ),
        (
            lambda state: {**state, "fc.weight": torch.ones(7, 4)},
            "it has 7 classes, but the network has 3 (fc)",
        ),
        (
            lambda state: {**network(classes=7).state_dict(), "bn.bias": torch.ones(5)},
            "shapes differ: bn.bias [5] for [4], fc.weight [7, 4] for [3, 4], fc.bias [7] for [3]",
        ),
        (
            lambda state: renamed(network(classes=7).state_dict(), conv_bias="conv.shift"),
            "it lacks conv.bias; the network has no conv.shift; shapes differ: fc.weight [7, 4]",
        ),
        (
            lambda state: {**state, "fc.bias": torch.ones(7)},
            "shapes differ: fc.bias [7] for [3]",
        ),
        (
            lambda state: network(width=5).state_dict(),
            "shapes differ: conv.weight [5, 3, 3, 3] for [4, 3, 3, 3], conv.bias [5] for [4], "
            "bn.weight [5] for [4] and 5 more",
        ),
        (
            lambda state: {**state, "fc.weight": torch.ones(7, 5), "fc.bias": torch.ones(7)},
            "shapes differ: fc.weight [7, 5] for [3, 4], fc.bias [7] for [3]",
        ),
        (
            lambda state: {**state, "fc.bias": torch.ones(3, dtype=torch.int8)},
            "it has numbers of another kind: fc.bias torch.int8 for torch.float32",
        ),
        (
            lambda state: {**state, "fc.bias": torch.ones(3, dtype=torch.complex64)},
            "it has numbers of another kind: fc.bias torch.complex64 for torch.float32",
        ),
        (
            lambda state: {**state, "bn.num_batches_tracked": torch.tensor(1.5)},
            "another kind: bn.num_batches_tracked torch.float32 for torch.int64",
        ),
        (
            lambda state: {**state, "fc.bias": torch.tensor([0, torch.nan, 0])},
            "it has values that are NaN or infinite in fc.bias",
        ),
        (
            lambda state: {**state, "bn.bias": torch.full((4,), -torch.inf)},
            "it has values that are NaN or infinite in bn.bias",
        ),
        (
            lambda state: {**state, "bn.bias": torch.full((4,), 1e39, dtype=torch.float64)},
            "it has values that are NaN or infinite in bn.bias",
        ),
    ],
)
def test_what_does_not_fit_is_named_and_changes_nothing(state, change, message):
    net = network(seed=1)
    with pytest.raises(ArchitectureError) as raised:
        load_weights(net, change(state), "it")
    assert message in str(raised.value)
    assert_equal(net, network(seed=1))


def damaged(path):
    path.write_bytes(path.read_bytes()[:-200])
    return path


class Kept:
    """An object beside the tensors."""


WAY_OUT = (
    "safetensors.torch.save_file({n: t.contiguous() for n, t in net.state_dict().items()}, "
    '"weights.safetensors")'
)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lambda state: network(), f"holds objects of .*Sequential, .* run code.*{WAY_OUT}"),
        (lambda state: {"state_dict": state, "config": Kept()}, f"objects of .*Kept, .*{WAY_OUT}"),
        (lambda state: [state], "the file holds a list, not a state dict"),
        (lambda state: state["fc.bias"], "the file holds a Tensor, not a state dict"),
        (lambda state: {"epoch": 3, "weights": state}, "entry 'epoch' is of type int; save a stat"),
        (lambda state: {"state_dict": {}}, "the file holds no tensors"),
        (
            lambda state: {**state, "fc.bias": state["fc.bias"].to_sparse()},
            "tensor 'fc.bias' is sparse or quantized",
        ),
    ],
)
def test_a_file_of_anything_but_tensors_is_refused(state, save, content, message):
    path = save(content(state))
    message = message.replace("(", r"\(").replace(")", r"\)")
    with pytest.raises(ArchitectureError, match=f"^weights .*weights.pt: .*{message}"):
        read_weights(path)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_damaged_torch_file_is_refused(state, save, zipped):
    path = damaged(save(state, _use_new_zipfile_serialization=zipped))
    with pytest.raises(ArchitectureError, match=r"weights.pt: this is no torch file of tensors \("):
        read_weights(path)


@pytest.mark.parametrize("content", [b"", b"no weights, a text"])
def test_a_file_of_another_format_is_refused(tmp_path, content):
    path = tmp_path / "notes.safetensors"
    path.write_bytes(content)
    with pytest.raises(ArchitectureError, match=r"notes.safetensors: this is no torch file of"):
        fingerprint(path)


def test_a_damaged_or_absent_safetensors_file_is_refused(state, tmp_path):
    path = tmp_path / "weights.safetensors"
    with pytest.raises(ArchitectureError, match=r"weights.safetensors cannot be read: No such"):
        read_weights(path)
    save_file({name: value.contiguous() for name, value in state.items()}, path)
    damaged(path)
    with pytest.raises(ArchitectureError, match=r"weights.safetensors cannot be read: "):
        read_weights(path)
