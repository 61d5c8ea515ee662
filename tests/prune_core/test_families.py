"""The network families: sizes, agreement with torchvision and with a plain implementation."""

import io
import math

import pytest
import torch
import torchvision
from torch import nn
from torch.nn import functional as F

from prune_core.networks import resnet, torchvision_resnets, vgg
from prune_core.networks.errors import ArchitectureError
from prune_core.networks.layers import PaddedShortcut, scaled
from prune_core.networks.registry import NETWORKS

FAMILIES = {
    name: family
    for name, family in NETWORKS.items()
    if family.build.__module__ in {module.__name__ for module in (resnet, torchvision_resnets, vgg)}
}

# Network, options, classes, trainable parameters, multiply-accumulates of convolutions and linear
# layer per image of the size that the network was made for.
FACTS = [
    ("vgg11_bn", {}, 10, 9_231_114, 152_769_536),
    ("vgg16_bn", {}, 10, 14_728_266, 313_201_664),
    ("vgg19_bn", {}, 10, 20_040_522, 398_136_320),
    ("resnet20", {"shortcut": "A"}, 10, 269_722, 40_551_040),
    ("resnet20", {"shortcut": "B"}, 10, 272_474, 40_813_184),
    ("resnet56", {"shortcut": "A"}, 10, 853_018, 125_485_696),
    ("resnet56", {"shortcut": "B"}, 10, 855_770, 125_747_840),
    ("resnet110", {"shortcut": "A"}, 10, 1_727_962, 252_887_680),
    ("resnet110", {"shortcut": "B"}, 10, 1_730_714, 253_149_824),
    ("resnet18", {}, 1000, 11_689_512, 1_814_073_344),
    ("resnet50", {}, 1000, 25_557_032, 4_089_184_256),
]

# Every family with each shortcut, but ResNet-110 only where it takes no time: it is ResNet-56 with
# more blocks.
NETS = [
    pytest.param(name, options, id="-".join([name, *options.values()]))
    for name, options, *_ in FACTS
    if name != "resnet110"
]
NAMES = [name for name in FAMILIES if name != "resnet110"]


def meta(name, classes=10, **options):
    """A network without memory for its tensors."""
    with torch.device("meta"):
        return NETWORKS[name].build(classes, **options).eval()


def used(net):
    """The network in eval mode, with statistics and scales as after some training."""
    generator = torch.Generator().manual_seed(1)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight, module.running_var):
                tensor.data.uniform_(0.5, 1.5, generator=generator)
            for tensor in (module.bias, module.running_mean):
                tensor.data.uniform_(-0.3, 0.3, generator=generator)
    return net.eval()


def multiply_accumulates(net, size):
    """Counted at every convolution and linear layer, for one image."""
    counts = []

    def count(module, _, output):
        counts.append(output[0].numel() * module.weight[0].numel())

    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_hook(count)
    net(torch.empty(2, 3, *size, device="meta"))
    return sum(counts)


@pytest.mark.parametrize(("name", "options", "classes", "parameters", "macs"), FACTS)
def test_published_sizes(name, options, classes, parameters, macs):
    net = meta(name, classes, **options)
    assert sum(parameter.numel() for parameter in net.parameters()) == parameters
    assert multiply_accumulates(net, NETWORKS[name].image_size) == macs


def test_every_family_is_tested_and_described():
    assert {name for name, *_ in FACTS} == {*FAMILIES}
    for family in FAMILIES.values():
        assert family.summary.endswith(".")
        assert all(50 < accuracy < 100 for accuracy in family.accuracies.values())
    for number, error in ((20, 8.75), (56, 6.97), (110, 6.61)):
        known = NETWORKS[f"resnet{number}"].accuracies["cifar10"]
        assert known == pytest.approx(100 - error)


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_resnets_are_torchvisions(name):
    published = getattr(torchvision.models, name)(weights=None, num_classes=7)
    used(published).to(memory_format=torch.channels_last)
    net = NETWORKS[name].build(7).eval()
    shapes = {key: tensor.shape for key, tensor in net.state_dict().items()}
    assert shapes == {key: tensor.shape for key, tensor in published.state_dict().items()}
    weights = torchvision.models.get_model_weights(name).IMAGENET1K_V1
    published_accuracy = weights.meta["_metrics"]["ImageNet-1K"]["acc@1"]
    assert NETWORKS[name].accuracies == {"imagenet": published_accuracy}
    net.load_state_dict(published.state_dict())
    images = torch.randn(2, 3, 70, 97).to(memory_format=torch.channels_last)
    with torch.no_grad():
        torch.testing.assert_close(net(images), published(images))


@pytest.mark.parametrize("name", ["vgg11_bn", "vgg16_bn", "vgg19_bn"])
def test_convolutions_of_vgg_are_torchvisions(name):
    with torch.device("meta"):
        published = getattr(torchvision.models, name)(weights=None).features
    features = meta(name).get_submodule("features")
    assert str(features) == str(published)
    assert {key: tensor.shape for key, tensor in features.state_dict().items()} == {
        key: tensor.shape for key, tensor in published.state_dict().items()
    }


def test_vgg_reads_the_average_of_each_channel():
    net = used(NETWORKS["vgg11_bn"].build(5, width=0.1))
    linear = net.get_submodule("classifier")
    with torch.no_grad():
        for size, pixels in (((32, 32), 1), ((32, 96), 3), ((150, 70), 8)):
            images = torch.randn(2, 3, *size)
            maps = net.get_submodule("features")(images)
            assert maps.shape[2] * maps.shape[3] == pixels
            torch.testing.assert_close(net(images), linear(maps.mean(dim=(2, 3))))


def plain_resnet(state, images, depth, shortcut):
    """Section 4.2 of the paper, written down operation by operation."""

    def norm(maps, name):
        names = ("running_mean", "running_var", "weight", "bias")
        return F.batch_norm(maps, *(state[f"{name}.{each}"] for each in names))

    maps = F.relu(norm(F.conv2d(images, state["conv1.weight"], padding=1), "bn1"))
    for stage in (1, 2, 3):
        for block in range((depth - 2) // 6):
            at = f"layer{stage}.{block}"
            stride = 2 if stage > 1 and block == 0 else 1
            made = F.conv2d(maps, state[f"{at}.conv1.weight"], stride=stride, padding=1)
            made = F.conv2d(F.relu(norm(made, f"{at}.bn1")), state[f"{at}.conv2.weight"], padding=1)
            made = norm(made, f"{at}.bn2")
            if stride == 2 and shortcut == "A":
                maps = F.pad(maps[:, :, ::2, ::2], (0, 0, 0, 0, 0, made.shape[1] - maps.shape[1]))
            elif stride == 2:
                maps = F.conv2d(maps, state[f"{at}.downsample.0.weight"], stride=2)
                maps = norm(maps, f"{at}.downsample.1")
            maps = F.relu(made + maps)
    return F.linear(maps.mean(dim=(2, 3)), state["fc.weight"], state["fc.bias"])


@pytest.mark.parametrize("shortcut", ["A", "B"])
@pytest.mark.parametrize(("depth", "width"), [(20, 1), (56, 0.3)])
@pytest.mark.parametrize("size", [(32, 32), (33, 50)])
def test_resnets_for_small_images_are_the_papers(shortcut, depth, width, size):
    net = used(NETWORKS[f"resnet{depth}"].build(10, width=width, shortcut=shortcut))
    images = torch.randn(3, 3, *size)
    with torch.no_grad():
        expected = plain_resnet(net.state_dict(), images, depth, shortcut)
        torch.testing.assert_close(net(images), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("name", "options"), NETS)
@pytest.mark.parametrize("width", [0.01, 0.3, 1.37])
def test_width_multiplies_every_width(name, options, width):
    full, net = (meta(name, width=each, **options) for each in (1, width))
    assert type(net) is type(full)
    compared = 0
    for (at, one), (_, other) in zip(full.named_modules(), net.named_modules(), strict=True):
        if isinstance(one, nn.Conv2d):
            # The outer width of a bottleneck stays four times the inner one.
            block = full.get_submodule(at.rpartition(".")[0].removesuffix(".downsample"))
            outer = (
                isinstance(block, resnet.Bottleneck)
                and one.out_channels != block.conv1.out_channels
            )
            times = 4 if outer else 1
            expected = times * max(1, round(one.out_channels / times * width))
            assert other.out_channels == expected, at
            compared += 1
    assert compared >= 8
    assert net(torch.empty(2, 3, 64, 64, device="meta")).shape == (2, 10)


@pytest.mark.parametrize(("name", "options"), NETS)
@pytest.mark.parametrize("size", [(32, 32), (47, 33), (32, 100), (224, 160)])
def test_every_size_of_image_fits(name, options, size):
    net = meta(name, classes=7, **options)
    assert net(torch.empty(2, 3, *size, device="meta")).shape == (2, 7)


@pytest.mark.parametrize(("name", "options"), NETS)
def test_all_tensors_are_channels_last(name, options):
    net = NETWORKS[name].build(4, width=0.13, **options).eval()
    found = []

    def look(module, inputs, output):
        for tensor in (*inputs, output):
            if tensor.ndim == 4:
                found.append(tensor.shape[1] == 1 or tensor.stride(1) == 1)

    for module in net.modules():
        module.register_forward_hook(look)
    with torch.no_grad():
        net(torch.randn(2, 3, 64, 64).to(memory_format=torch.channels_last))
    assert len(found) > 20
    assert all(found)
    assert all(
        parameter.is_contiguous(memory_format=torch.channels_last)
        for parameter in net.parameters()
        if parameter.ndim == 4
    )


@pytest.mark.parametrize(("name", "options"), NETS)
def test_networks_can_be_traced_with_each_module_called_once(name, options):
    graph = torch.fx.symbolic_trace(meta(name, **options)).graph
    called = [node.target for node in graph.nodes if node.op == "call_module"]
    # Statistics are collected by hooks, which cannot tell two calls of one module apart.
    assert len(called) == len({*called}) > 20


@pytest.mark.parametrize(("name", "options"), NETS)
def test_no_1x1_convolution_has_a_stride(name, options):
    """Such a layer corrupts memory in training on CPUs; see `resnet.projection`."""
    for at, module in meta(name, **options).named_modules():
        if isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1):
            assert module.stride == (1, 1), at


@pytest.mark.parametrize(("name", "options"), NETS)
def test_every_parameter_has_a_gradient(name, options):
    net = NETWORKS[name].build(4, width=0.1, **options).train()
    images, labels = torch.randn(8, 3, 64, 64), torch.arange(8) % 4
    F.cross_entropy(net(images), labels).backward()
    for at, parameter in net.named_parameters():
        assert parameter.grad is not None, at
        assert parameter.grad.isfinite().all(), at
        assert parameter.grad.any(), at


@pytest.mark.parametrize("name", NAMES)
def test_initial_weights(name):
    net = NETWORKS[name].build(1000, width=0.5)
    for at, module in net.named_modules():
        if isinstance(module, nn.Conv2d):
            weight = module.weight.detach()
            expected = math.sqrt(2 / weight[0].numel())
            # The standard deviation of n numbers is off by 1 / sqrt(2 n) of it, here 5 times that.
            tolerance = 5 / math.sqrt(2 * weight.numel())
            assert weight.std().item() == pytest.approx(expected, rel=tolerance), at
            assert abs(weight.mean()) < 5 * expected / math.sqrt(weight.numel()), at
            assert weight.abs().max() > 2 * expected, f"{at} is not normal"
            assert module.bias is None or not module.bias.any()
        elif isinstance(module, nn.BatchNorm2d):
            assert (module.weight == 1).all()
            assert not module.bias.any()
        elif isinstance(module, nn.Linear):
            bound = 1 / math.sqrt(module.in_features)
            for tensor in (module.weight, module.bias):
                assert 0.95 * bound < tensor.abs().max() <= bound


@pytest.mark.parametrize("name", NAMES)
def test_the_seed_determines_the_weights(name):
    def weights(seed):
        torch.manual_seed(seed)
        return NETWORKS[name].build(10, width=0.1).state_dict()

    first, same, other = weights(3), weights(3), weights(4)
    assert all(torch.equal(tensor, same[key]) for key, tensor in first.items())
    kernels = [key for key, tensor in first.items() if tensor.ndim == 4]
    assert kernels
    assert not any(torch.equal(first[key], other[key]) for key in kernels)


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 0}, "width 0 must be a positive"),
        ({"width": math.nan}, "width nan must be a positive"),
        ({"width": math.inf}, "width inf must be a positive"),
        ({"classes": 1}, "classes 1: at least 2"),
    ],
)
def test_impossible_options_are_refused(name, options, message):
    with pytest.raises(ArchitectureError, match=message):
        NETWORKS[name].build(**{"classes": 10, **options})


def test_an_unknown_shortcut_is_refused():
    with pytest.raises(ArchitectureError, match="'C' is unknown; allowed: A, B"):
        resnet.resnet20(10, shortcut="C")


def test_scaled_widths():
    assert [scaled(64, width) for width in (1, 0.5, 0.26, 0.001, 2)] == [64, 32, 17, 1, 128]


# PaddedShortcut.


def padded(maps, outputs, stride):
    """Option A as the paper says it."""
    return F.pad(maps[:, :, ::stride, ::stride], (0, 0, 0, 0, 0, outputs - maps.shape[1]))


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize(("inputs", "outputs"), [(4, 9), (1, 2), (3, 3)])
@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_padded_shortcut_pads(stride, inputs, outputs, layout):
    shortcut = PaddedShortcut(inputs, outputs, stride)
    assert (shortcut.inputs, shortcut.outputs) == (inputs, outputs)
    maps = torch.randn(2, inputs, 7, 10).to(memory_format=layout).requires_grad_()
    made, expected = shortcut(maps), padded(maps, outputs, stride)
    assert torch.equal(made, expected)
    assert made.is_contiguous(memory_format=torch.channels_last)
    weights = torch.randn_like(expected)
    (gradient,) = torch.autograd.grad((made * weights).sum(), maps)
    (plain,) = torch.autograd.grad((expected * weights).sum(), maps)
    assert torch.equal(gradient, plain)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_padded_shortcut_keeps_the_type(dtype):
    shortcut = PaddedShortcut(4, 6, 2).to(dtype)
    assert shortcut.source.dtype == torch.int64
    maps = torch.randn(2, 4, 6, 6, dtype=dtype)
    assert torch.equal(shortcut(maps), padded(maps, 6, 2))


@pytest.mark.parametrize("seed", range(8))
def test_selected_channels_equal_masked_ones(seed):
    """Also when channels are removed again and again, as in iterative pruning."""
    torch.manual_seed(seed)
    full, shortcut = PaddedShortcut(9, 15, 2), PaddedShortcut(9, 15, 2)
    maps = torch.randn(2, 9, 8, 6)
    inputs, outputs = torch.arange(9), torch.arange(15)
    for _ in range(3):
        of_inputs = torch.randperm(len(inputs))[: max(1, len(inputs) - 2)].sort().values
        of_outputs = torch.randperm(len(outputs))[: len(outputs) - 3].sort().values
        shortcut.select(of_inputs, of_outputs)
        inputs, outputs = inputs[of_inputs], outputs[of_outputs]
        masked = torch.zeros_like(maps)
        masked[:, inputs] = maps[:, inputs]
        assert torch.equal(shortcut(maps[:, inputs]), full(masked)[:, outputs])
        assert (shortcut.inputs, shortcut.outputs) == (len(inputs), len(outputs))
        assert [*shortcut.state_dict()] == ["source"]


def test_selecting_by_hand():
    shortcut = PaddedShortcut(4, 6, 2)
    assert shortcut.source.tolist() == [0, 1, 2, 3, -1, -1]
    shortcut.select(torch.tensor([0, 2, 3]), torch.tensor([1, 2, 3, 5]))
    assert shortcut.source.tolist() == [-1, 1, 2, -1]
    assert str(shortcut) == "PaddedShortcut(3, 4, stride=2)"
    shortcut.select(torch.tensor([1]), torch.tensor([0, 1]))
    assert shortcut.source.tolist() == [-1, 0]


def test_a_loaded_table_is_used():
    pruned, other = PaddedShortcut(4, 6, 2), PaddedShortcut(3, 4, 2)
    pruned.select(torch.tensor([0, 2, 3]), torch.tensor([1, 2, 3, 5]))
    stored = io.BytesIO()
    torch.save(pruned.state_dict(), stored)
    stored.seek(0)
    maps = torch.randn(2, 3, 8, 8)
    assert not torch.equal(other(maps), pruned(maps))
    other.load_state_dict(torch.load(stored, weights_only=True))
    assert torch.equal(other(maps), pruned(maps))


def test_a_resnet_runs_under_autocast():
    net = used(resnet.resnet20(10, shortcut="A"))
    images = torch.randn(4, 3, 32, 32).to(memory_format=torch.channels_last)
    kinds = []
    for module in net.modules():
        if isinstance(module, PaddedShortcut):
            module.register_forward_hook(lambda _, i, o: kinds.append((i[0].dtype, o.dtype)))
    with torch.no_grad():
        expected = net(images)
        kinds.clear()
        with torch.autocast("cpu", torch.bfloat16):
            made = net(images)
    assert kinds == [(torch.bfloat16, torch.bfloat16)] * 2
    assert (made.float() - expected).norm() < 0.05 * expected.norm()


def with_reversed_tables(net):
    """Reverses the outputs of all shortcuts, so that appended zeros alone would be wrong."""
    for module in net.modules():
        if isinstance(module, PaddedShortcut):
            module.source.copy_(module.source.flip(0))
    return net


@pytest.mark.parametrize("shortcut", ["A", "B"])
def test_a_resnet_can_be_exported(shortcut):
    net = with_reversed_tables(used(resnet.resnet20(10, shortcut=shortcut)))
    images = torch.randn(3, 3, 32, 32).to(memory_format=torch.channels_last)
    program = torch.export.export(
        net, (images,), dynamic_shapes=({0: torch.export.Dim("batch", min=1)},)
    )
    for batch in (images, images[:1], torch.randn(5, 3, 32, 32)):
        with torch.no_grad():
            torch.testing.assert_close(program.module()(batch), net(batch))


def test_a_padded_shortcut_becomes_onnx():
    onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    pytest.importorskip("onnxscript", reason="onnxscript is not installed")
    shortcut = PaddedShortcut(4, 6, 2).eval()
    shortcut.select(torch.tensor([0, 2, 3]), torch.tensor([1, 2, 3, 5]))
    maps = torch.randn(2, 3, 9, 8)
    program = torch.onnx.export(
        shortcut, (maps,), dynamo=True, dynamic_shapes=({0: torch.export.Dim("batch")},)
    )
    session = onnxruntime.InferenceSession(program.model_proto.SerializeToString())
    name = session.get_inputs()[0].name
    for batch in (maps, torch.randn(5, 3, 9, 8)):
        (made,) = session.run(None, {name: batch.numpy()})
        assert torch.equal(torch.from_numpy(made), shortcut(batch))
