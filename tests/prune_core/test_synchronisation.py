"""The CPU waits for a GPU a few times in an epoch or an evaluation, but never in a batch.

Without a GPU, torch's fake tensors stand for tensors on a GPU: they have a device, a shape and a
type, but no values. What would make the CPU wait is counted, and the count must not grow with the
number of batches. Fake tensors have no gradients without a GPU, so the backward pass is counted on
the CPU.
"""

from collections import Counter
from contextlib import nullcontext

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, unset_fake_temporarily
from torch.utils._python_dispatch import TorchDispatchMode

from prune_core.evaluation import BATCHES, evaluate
from prune_core.images import LabelledImages, dataset
from prune_core.networks import NETWORKS
from prune_core.training import Recipe, recalibrate, train

# Operations that give a number to the CPU, or a tensor whose shape depends on values.
READS = ("_local_scalar_dense", "nonzero", "masked_select", "bincount", "_unique2", "equal")
BATCH = 4


class Waits(TorchDispatchMode):
    """Counts the operations for which the CPU waits.

    Attributes
    ----------
    counts : by what makes the CPU wait, such as "copy cpu to cuda".
    """

    def __init__(self):
        super().__init__()
        self.counts = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = func.overloadpacket.__name__
        self.counts.update(reasons(name, args, kwargs))
        if name == "_local_scalar_dense" and isinstance(args[0], FakeTensor):
            return 1.0 if args[0].is_floating_point() else 1
        if name == "_fused_sgd_" and isinstance(args[0][0], FakeTensor):
            return None  # torch has no fake form of this step, which reads nothing
        return func(*args, **kwargs)


def reasons(name, args, kwargs):
    """What makes the CPU wait in this operation, each as a few words."""
    if name in READS:
        yield name
    if name in ("index", "index_put", "index_put_"):
        for index in args[1]:
            if index is not None and index.dtype in (torch.bool, torch.uint8):
                yield "index by a mask"
            elif index is not None and index.device != args[0].device:
                yield "index on another device"
    if name == "copy_":
        source, target = args[1], args[0].device
    elif name == "_to_copy":
        source, target = args[0], kwargs.get("device") or args[0].device
    else:
        return
    waits_for_no_one = kwargs.get("non_blocking") and hasattr(source, "pinned")
    if source.device.type != target.type and not waits_for_no_one:
        yield f"copy {source.device.type} to {target.type}"


def counted(run):
    with Waits() as waits:
        run()
    return waits.counts


@pytest.fixture
def fake_gpu(monkeypatch):
    """Fake tensors, and stand-ins for the calls that need a GPU even so."""

    def pin_memory(tensor):
        found = tensor.view_as(tensor)
        found.pinned = True
        return found

    monkeypatch.setattr(torch.Tensor, "pin_memory", pin_memory)
    monkeypatch.setattr(torch.Tensor, "backward", lambda loss: None)
    monkeypatch.setattr(torch.random, "fork_rng", lambda devices: nullcontext())
    with FakeTensorMode():
        yield


def made(variant, device):
    """A network of a tenth of the widths; on "cuda" its tensors are fake, with fake gradients."""
    with unset_fake_temporarily():
        net = NETWORKS[variant].build(10, width=0.1)
    for module in net.modules() if device == "cuda" else ():
        for name, tensor in list(module.named_parameters(recurse=False)):
            moved = nn.Parameter(torch.empty(tensor.shape, device=device))
            moved.grad = torch.empty(tensor.shape, device=device)
            module.register_parameter(name, moved)
        for name, tensor in list(module.named_buffers(recurse=False)):
            moved = torch.empty(tensor.shape, dtype=tensor.dtype, device=device)
            module.register_buffer(name, moved)
    return net


def images(count):
    """Images of the CPU, a selection of others."""
    stored = torch.zeros(count + 3, 3, 32, 32, dtype=torch.uint8)
    return LabelledImages(stored, torch.arange(count) % 10, torch.arange(count) + 2)


def training(net, count, scaling):
    recipe = Recipe(1, BATCH, 0.01, recalibrate=False, precision="fp32")
    train(net, images(count * BATCH), scaling, recipe, 0, flip_keeps_label=True)


def recalibration(net, count, scaling):
    recalibrate(net, images(count * BATCH), scaling, Recipe(1), 0, True, batch=BATCH)


def evaluation(net, count, scaling):
    size = BATCHES["cuda" if "cuda" in str(next(net.parameters()).device) else "cpu"]
    evaluate(net, images(count * size), scaling)


WORK = [training, recalibration, evaluation]


@pytest.mark.parametrize("variant", ["simplenet_310k", "resnet20"])
@pytest.mark.parametrize("resident", [True, False], ids=["resident", "batch by batch"])
@pytest.mark.parametrize("work", WORK)
def test_no_batch_waits_for_the_gpu(fake_gpu, monkeypatch, scaling, work, resident, variant):
    if not resident:
        monkeypatch.setattr(dataset, "RESIDENT_BYTES", 0)
    # The gradients of the fake network stay, since nothing computes them anew.
    monkeypatch.setattr(torch.optim.Optimizer, "zero_grad", lambda *_, **__: None)
    net = made(variant, "cuda")
    few, more = (counted(lambda n=n: work(net, n, scaling)) for n in (2, 5))
    assert few == more
    assert sum(few.values()) < 14


@pytest.mark.parametrize("work", WORK)
def test_no_batch_reads_a_value(scaling, work):
    net = made("simplenet_310k", "cpu")
    few, more = (counted(lambda n=n: work(net, n, scaling)) for n in (2, 3))
    assert few == more


@pytest.mark.parametrize(
    ("wait", "reason"),
    [
        (lambda on_gpu: float(on_gpu.sum()), "_local_scalar_dense"),
        (lambda on_gpu: bool(on_gpu.any()), "_local_scalar_dense"),
        (lambda on_gpu: on_gpu.new_tensor([1.0]), "copy cpu to cuda"),
        (lambda on_gpu: torch.zeros(2).to("cuda", non_blocking=True), "copy cpu to cuda"),
        (lambda on_gpu: on_gpu.cpu(), "copy cuda to cpu"),
        (lambda on_gpu: on_gpu[torch.zeros(3, dtype=torch.int64)], "index on another device"),
        (lambda on_gpu: torch.zeros(2).pin_memory().to("cuda", non_blocking=True), None),
        (lambda on_gpu: on_gpu * 2, None),
    ],
)
def test_what_waits_is_recognised(fake_gpu, wait, reason):
    found = counted(lambda: wait(torch.ones(3, device="cuda")))
    assert set(found) == ({reason} if reason else set())
