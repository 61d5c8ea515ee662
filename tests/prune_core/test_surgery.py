import copy

import pytest
import torch
import torch_pruning
from hypothesis import given, settings
from hypothesis import strategies as st

from prune_core.cost import parameters
from prune_core.networks import Architecture
from prune_core.networks.simplenet import VARIANTS
from prune_core.surgery import SurgeryError, prune


def random_kept(widths, generator, share=None):
    kept = []
    for width in widths:
        fraction = torch.rand((), generator=generator) if share is None else share
        mask = torch.rand(width, generator=generator) < fraction
        mask[torch.randint(width, (), generator=generator)] = True
        kept.append(mask.nonzero().flatten())
    return kept


def masked_logits(net, kept, images):
    """Logits of the full network with the other channels set to zero."""

    def zero_others(channels):
        def hook(_module, _inputs, output):
            mask = torch.zeros(output.shape[1], dtype=output.dtype)
            mask[channels] = 1
            return output * mask[:, None, None]

        return hook

    hooks = [
        block.register_forward_hook(zero_others(channels))
        for block, channels in zip(net.blocks, kept, strict=True)
    ]
    with torch.no_grad():
        logits = net(images)
    for hook in hooks:
        hook.remove()
    return logits


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("share", [None, 0.5, 0.95])
def test_pruned_and_masked_networks_agree(variant, share, lived_in):
    architecture = Architecture.named(variant, 10)
    generator = torch.Generator().manual_seed(5)
    kept = random_kept(architecture.widths, generator, share)
    net = lived_in(architecture, seed=1, kept=kept)
    pruned = prune(net, kept)
    images = torch.randn(4, 3, 32, 32, generator=generator)
    with torch.no_grad():
        got = pruned(images)
        full = net(images)
    expected = masked_logits(net, kept, images)
    scale = expected.abs().max().item()
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-5 * max(1, scale))
    exact = prune(net.double(), kept)
    with torch.no_grad():
        torch.testing.assert_close(
            exact(images.double()), masked_logits(net, kept, images.double()), rtol=0, atol=1e-11
        )
    assert pruned.architecture.widths == tuple(len(channels) for channels in kept)
    # The masks change the logits, and the logits depend on the image: agreement is not trivial.
    assert not torch.allclose(full, expected, atol=1e-2)
    assert expected.std(dim=0).max() > 0.05


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**31 - 1))
def test_pruned_and_masked_small_networks_agree(small, lived_in, seed):
    generator = torch.Generator().manual_seed(seed)
    kept = random_kept(small.widths, generator)
    net = lived_in(small, seed, kept)
    pruned = prune(net, kept)
    images = torch.randn(3, 3, 32, 32, generator=generator)
    with torch.no_grad():
        got = pruned(images)
    torch.testing.assert_close(got, masked_logits(net, kept, images), rtol=1e-5, atol=1e-5)
    counted = sum(parameter.numel() for parameter in pruned.parameters())
    assert counted == parameters(small, [len(channels) for channels in kept])


def test_keeping_everything_changes_no_bit(small, lived_in):
    net = lived_in(small)
    images = torch.randn(3, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(prune(net, [torch.arange(w) for w in small.widths])(images), net(images))


def test_pruning_twice_is_pruning_once(small, lived_in):
    net = lived_in(small)
    once = [torch.tensor([1, 3, 4, 6]), torch.tensor([0, 5]), torch.arange(3, 9), torch.arange(5)]
    then = [torch.tensor([0, 3]), torch.tensor([1]), torch.tensor([2, 5]), torch.tensor([0, 1, 4])]
    both = [first[second] for first, second in zip(once, then, strict=True)]
    twice, direct = prune(prune(net, once), then), prune(net, both)
    for name, tensor in direct.state_dict().items():
        assert torch.equal(tensor, twice.state_dict()[name]), name


def test_the_network_and_the_generator_are_not_changed(small, lived_in):
    net = lived_in(small)
    before, state = copy.deepcopy(net.state_dict()), torch.get_rng_state()
    pruned = prune(net, [torch.arange(2)] * 4)
    with torch.no_grad():
        for tensor in pruned.state_dict().values():
            tensor.zero_()
    assert torch.equal(torch.get_rng_state(), state)
    assert net.architecture == small
    for name, tensor in net.state_dict().items():
        assert torch.equal(tensor, before[name]), name


@pytest.mark.parametrize("training", [True, False])
def test_mode_precision_and_counters_are_carried_over(small, lived_in, training):
    net = lived_in(small).double().train(training)
    net.blocks[0].bn.num_batches_tracked.fill_(17)
    pruned = prune(net, [torch.arange(3)] * 4)
    assert pruned.training is training
    assert pruned.blocks[0].conv.weight.dtype is torch.float64
    assert pruned.blocks[0].bn.num_batches_tracked == 17


@pytest.mark.parametrize(
    ("layer", "channels", "message"),
    [
        (2, torch.tensor([], dtype=torch.int64), "layer 2 would keep no channel"),
        (1, torch.tensor([0, 6]), r"layer 1 has channels 0 to 5, got \[0, 6\]"),
        (1, torch.tensor([-1, 2]), "layer 1 has channels 0 to 5"),
        (0, torch.tensor([2, 1]), "layer 0: channels must be ascending"),
        (0, torch.tensor([1, 1]), "without repeats"),
        (3, torch.ones(9, dtype=torch.bool), "layer 3: .* int64"),
        (3, torch.tensor([[0, 1]]), r"int64 .* shape \(1, 2\)"),
    ],
)
def test_invalid_channels_are_refused(small, lived_in, layer, channels, message):
    kept = [torch.arange(width) for width in small.widths]
    kept[layer] = channels
    with pytest.raises(SurgeryError, match=message):
        prune(lived_in(small), kept)


def test_a_missing_layer_is_refused(small, lived_in):
    with pytest.raises(SurgeryError, match="3 lists of channels for 4 layers"):
        prune(lived_in(small), [torch.arange(2)] * 3)


@pytest.mark.parametrize("variant", ["simplenet_310k", "simplenet_5m_extra_pool"])
def test_torch_pruning_gives_the_same_network(variant, lived_in):
    architecture = Architecture.named(variant, 10)
    generator = torch.Generator().manual_seed(3)
    kept = random_kept(architecture.widths, generator, share=0.6)
    net = lived_in(architecture, seed=2, kept=kept)
    ours = prune(net, kept)
    images = torch.randn(4, 3, 32, 32, generator=generator)
    theirs = copy.deepcopy(net)
    graph = torch_pruning.DependencyGraph().build_dependency(theirs, example_inputs=images[:1])
    for block, channels in zip(theirs.blocks, kept, strict=True):
        gone = sorted(set(range(block.conv.out_channels)) - set(channels.tolist()))
        graph.get_pruning_group(block.conv, torch_pruning.prune_conv_out_channels, gone).prune()
    for name, tensor in ours.state_dict().items():
        assert torch.equal(tensor, theirs.state_dict()[name]), name
    # Torch-pruning loses the memory layout, which affects the rounding of convolutions.
    theirs.to(memory_format=torch.channels_last)
    with torch.no_grad():
        torch.testing.assert_close(ours(images), theirs(images), rtol=1e-5, atol=1e-5)
        assert ours(images).std(dim=0).max() > 0.05
