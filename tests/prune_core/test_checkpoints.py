"""A training that was interrupted goes on with the same numbers."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from prune_core.precision import best_device
from prune_core.training import Recipe, train

RECIPE = Recipe(epochs=4, batch_size=16, learning_rate=0.05, dropout=0.3)


class InMemory:
    """Keeps the checkpoint of every epoch."""

    def __init__(self):
        self.checkpoint = None

    def last(self, beginning):
        found = self.checkpoint
        return found if found and found.beginning == beginning else None

    def due(self):
        return True

    def keep(self, checkpoint):
        self.checkpoint = checkpoint


class Counting(nn.Module):
    """Its buffer is in no state dict."""

    def __init__(self):
        super().__init__()
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64), persistent=False)

    def forward(self, maps):
        if self.training:
            self.seen += 1
        return maps * (1 + self.seen / 100)


@pytest.fixture
def net(small, lived_in):
    def build(seed=0):
        made = lived_in(small, seed=seed)
        made.classifier = nn.Sequential(Counting(), made.classifier)
        return made.to(best_device())

    return build


def tensors(net):
    return dict([*net.named_parameters(), *net.named_buffers()])


def trained(net, images, scaling, recipe=RECIPE, seed=0, checkpoints=None, end=None):
    """The history; the training is interrupted after the epoch `end`, if any."""

    def report(epoch):
        reported.append(epoch.epoch)
        if epoch.epoch == end:
            raise KeyboardInterrupt

    reported = []
    try:
        history = train(net, images, scaling, recipe, seed, True, report, checkpoints)
    except KeyboardInterrupt:
        history = None
    return history, reported


@pytest.mark.parametrize("momentum", [0.9, 0.0])
@pytest.mark.parametrize("end", [1, 3])
def test_an_interruption_changes_no_bit(net, coloured, scaling, momentum, end):
    images, recipe = coloured(70), replace(RECIPE, momentum=momentum)
    whole = net()
    expected, _ = trained(whole, images, scaling, recipe)
    kept = InMemory()
    assert trained(net(), images, scaling, recipe, checkpoints=kept, end=end)[0] is None
    torch.manual_seed(99)  # earlier random numbers of the process must not matter
    again = net()
    history, reported = trained(again, images, scaling, recipe, checkpoints=kept)
    assert history == expected
    assert reported == list(range(end + 1, 5))
    found = tensors(again)
    for name, tensor in tensors(whole).items():
        assert torch.equal(tensor, found[name]), name


def test_keeping_checkpoints_changes_nothing_either(net, coloured, scaling):
    one, other = net(), net()
    kept = InMemory()
    assert trained(one, coloured(70), scaling) == trained(
        other, coloured(70), scaling, checkpoints=kept
    )
    for name, tensor in tensors(one).items():
        assert torch.equal(tensor, tensors(other)[name]), name
    # None after the last epoch: there is nothing to go on with.
    assert len(kept.checkpoint.history) == 3


def test_a_training_that_began_otherwise_starts_anew(net, coloured, scaling):
    kept = InMemory()
    images = coloured(70)
    trained(net(), images, scaling, checkpoints=kept, end=2)
    before = kept.checkpoint
    changed = [
        {"net": net(seed=1)},
        {"recipe": replace(RECIPE, learning_rate=0.06)},
        {"recipe": replace(RECIPE, epochs=5)},
        {"seed": 1},
        {"images": coloured(71)},
    ]
    for change in changed:
        kept.checkpoint = before
        given = {"net": net(), "images": images, "scaling": scaling, **change}
        _, reported = trained(**given, checkpoints=kept)
        assert reported[0] == 1, change
    kept.checkpoint = before
    assert trained(net(), images, scaling, checkpoints=kept)[1] == [3, 4]
