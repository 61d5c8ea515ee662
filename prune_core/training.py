"""Training, fine-tuning and the re-estimation of batch normalisation."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from prune_core.augmentation import Crops
from prune_core.images import LabelledImages
from prune_core.network import BATCH_NORM_MOMENTUM, SimpleNet
from prune_core.precision import Precision, autocast, full_precision, resolve
from prune_core.preprocessing import Preprocessing
from prune_core.seeds import derive

TRAINING_VERSION = 2
# A mean over so many images is within 2 % of their standard deviation; more would cost time in
# every cell. The small batch keeps feature maps in a processor's cache.
RECALIBRATION_IMAGES = 2_048
RECALIBRATION_BATCH = 64


class Diverged(ArithmeticError):
    """The loss became NaN or infinite; the message names the epoch."""


@dataclass(frozen=True)
class Recipe:
    """How a network is trained: SGD with Nesterov momentum under a one-cycle rate.

    Attributes
    ----------
    epochs : passes over the training images; 0 trains nothing.
    batch_size : images per step; images that do not fill the last batch wait for the next epoch.
    learning_rate : the peak of the cycle.
    warmup : fraction of the steps in which the rate rises to its peak, before its cosine decay.
    momentum, weight_decay : of SGD; decay applies to kernels and the linear layer's weights,
        not to biases and batch normalisation.
    label_smoothing : share of the target that is spread over all classes.
    crop_padding : pixels by which an image may be shifted; 0 for no shifts.
    flip : mirror images at random, where the data say that this keeps the label.
    recalibrate : end by re-estimating batch normalisation, see `recalibrate`. Running statistics
        follow the weights slowly (momentum 0.05), so after a short training they are still those
        of earlier weights, and the accuracy would measure that lag.
    precision : `auto` is bf16 where the processor computes it, else fp32.
    """

    epochs: int
    batch_size: int = 128
    learning_rate: float = 0.1
    warmup: float = 0.3
    momentum: float = 0.9
    weight_decay: float = 5e-4
    label_smoothing: float = 0.0
    crop_padding: int = 4
    flip: bool = True
    recalibrate: bool = True
    precision: Precision = "auto"


@dataclass(frozen=True)
class Epoch:
    """What one epoch of training did.

    Attributes
    ----------
    epoch : counted from 1.
    loss : mean training loss in nats, label smoothing included.
    accuracy : fraction of augmented training images classified rightly while training.
    """

    epoch: int
    loss: float
    accuracy: float


def train(
    net: SimpleNet,
    images: LabelledImages,
    preprocessing: Preprocessing,
    recipe: Recipe,
    seed: int,
    flip_keeps_label: bool,
    report: Callable[[Epoch], None] = lambda _: None,
) -> list[Epoch]:
    """Trains the network in place; the same seed gives the same weights on one CPU machine.

    Parameters
    ----------
    images : training images, uint8 [N, 3, H, W]; moved to the network's device once.
    seed : of the batches' order, the augmentation and the dropout.
    report : called after every epoch.

    Raises
    ------
    Diverged
        If the loss of an epoch is NaN or infinite, or at the end a weight is.
    """
    device = net.classifier.weight.device
    precision = resolve(recipe.precision, device)
    images = images.to(device)
    flip = recipe.flip and flip_keeps_label
    generator = torch.Generator().manual_seed(derive(seed, "batches"))
    batch = min(recipe.batch_size, len(images))
    steps = len(images) // batch
    optimiser = _optimiser(net, recipe)
    criterion = nn.CrossEntropyLoss(label_smoothing=recipe.label_smoothing)
    net.train()
    history: list[Epoch] = []
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(derive(seed, "dropout"))
        for epoch in range(recipe.epochs):
            # Summed on the device and read once an epoch: reading makes the processor wait.
            loss_sum = torch.zeros((), dtype=torch.float64, device=device)
            right = torch.zeros((), dtype=torch.int64, device=device)
            order = torch.randperm(len(images), generator=generator).to(device)
            crops = Crops.draw(steps * batch, generator, recipe.crop_padding, flip, device)
            for step in range(steps):
                rate = one_cycle(recipe, (epoch * steps + step + 0.5) / (recipe.epochs * steps))
                for group in optimiser.param_groups:
                    group["lr"] = rate
                part = slice(step * batch, (step + 1) * batch)
                labels = images.labels[order[part]]
                pixels = crops[part].of(images.images[order[part]])
                with autocast(precision, device):
                    logits = net(preprocessing(pixels))
                logits = logits.float()
                loss = criterion(logits, labels)
                optimiser.zero_grad(set_to_none=True)
                loss.backward()
                optimiser.step()
                loss_sum += loss.detach()
                right += (logits.detach().argmax(1) == labels).sum()
            mean_loss = float(loss_sum) / steps
            if not math.isfinite(mean_loss):
                raise Diverged(f"the loss was {mean_loss} in epoch {epoch + 1} of {recipe.epochs}")
            history.append(Epoch(epoch + 1, mean_loss, int(right) / (steps * batch)))
            report(history[-1])
    if recipe.recalibrate and recipe.epochs > 0:
        recalibrate(net, images, preprocessing)
    # The last step may overflow where no loss follows that would show it.
    if not all(bool(tensor.isfinite().all()) for tensor in net.state_dict().values()):
        raise Diverged(f"a weight is NaN or infinite after epoch {recipe.epochs}, the last")
    return history


def one_cycle(recipe: Recipe, progress: float) -> float:
    """The learning rate at a point of the training, `progress` in [0, 1]."""
    if progress < recipe.warmup:
        return recipe.learning_rate * progress / recipe.warmup
    decay = (progress - recipe.warmup) / (1 - recipe.warmup) if recipe.warmup < 1 else 1.0
    return recipe.learning_rate * 0.5 * (1 + math.cos(math.pi * decay))


def recalibrate(
    net: SimpleNet,
    images: LabelledImages,
    preprocessing: Preprocessing,
    batch: int = RECALIBRATION_BATCH,
) -> None:
    """Re-estimates the running statistics of batch normalisation, in place; weights stay.

    Each running mean and variance becomes the average over batches of the first 2,048 of these
    images, which are not augmented; dropout is off, in fp32.
    """
    images = images.first(RECALIBRATION_IMAGES)
    device = net.classifier.weight.device
    norms = [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]
    training = net.training
    net.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain average over batches
        norm.train()
    with torch.no_grad(), full_precision():
        for start in range(0, len(images), batch):
            if len(images) - start < batch <= len(images):
                break  # a short last batch would count as much as a full one
            net(preprocessing(images.images[start : start + batch].to(device)))
    for norm in norms:
        norm.momentum = BATCH_NORM_MOMENTUM
    net.train(training)


def _optimiser(net: SimpleNet, recipe: Recipe) -> torch.optim.Optimizer:
    decayed = [parameter for parameter in net.parameters() if parameter.ndim > 1]
    free = [parameter for parameter in net.parameters() if parameter.ndim <= 1]
    return torch.optim.SGD(
        [
            {"params": decayed, "weight_decay": recipe.weight_decay},
            {"params": free, "weight_decay": 0.0},
        ],
        lr=recipe.learning_rate,
        momentum=recipe.momentum,
        nesterov=recipe.momentum > 0,
        fused=True,
    )
