"""Training, fine-tuning and re-estimation of the batch normalisation statistics."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace

import torch
from torch import Tensor, nn

from prune_core.augmentation import Crops
from prune_core.checkpoints import Checkpoint, Checkpoints, TrainingState
from prune_core.images import LabelledImages
from prune_core.networks import device_of
from prune_core.networks.module import all_finite, reading
from prune_core.precision import Precision, autocast, full_precision, resolve
from prune_core.preprocessing import Preprocessing
from prune_core.seeds import derive
from prune_core.strided_convolutions import subsampled_first

TRAINING_VERSION = 3
# The standard error of a mean over this many images is about 2 % of the standard deviation; more
# images would cost time in every cell. A small batch keeps the feature maps in the CPU cache.
RECALIBRATION_IMAGES = 2_048
RECALIBRATION_BATCH = 64

BatchNorm = nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d
BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)


class Diverged(ArithmeticError):
    """The loss became NaN or infinite; the message names the epoch."""


@dataclass(frozen=True)
class Recipe:
    """How a network is trained: SGD with Nesterov momentum and a one-cycle learning rate.

    Attributes
    ----------
    epochs : passes over the training images; 0 trains nothing.
    batch_size : images per step; an incomplete last batch is dropped in each epoch.
    learning_rate : the largest learning rate of the cycle.
    warmup : fraction of the steps with a linear rise of the learning rate, before its cosine decay.
    momentum, weight_decay : of SGD; the decay applies to kernels (also depthwise ones) and to the
        weights of linear layers, not to biases, normalisation and the slopes of PReLU.
    label_smoothing : fraction of the target that is spread over all classes.
    crop_padding : largest random shift of an image in pixels; 0 for no shifts.
    flip : mirror images at random, if mirrored images of the data set keep their label.
    recalibrate : re-estimate batch normalisation at the end, see `recalibrate`. Running statistics
        follow the weights slowly (momentum 0.05 in SimpleNet). After a short training they still
        belong to earlier weights, and this would lower the accuracy.
    precision : `auto` is bf16 if the device computes it in hardware, otherwise fp32.
    images : training images in an epoch, drawn at random for each epoch; None, or more than there
        are, for all. A network that was trained on all images can so be fine-tuned for less than
        an epoch.
    dropout : probability of the network's dropout layers (modules of `torch.nn` whose name begins
        with Dropout) while it is trained; None for the network's own. Short trainings end better
        with less.
    epochs_before, epochs_after : epochs of the learning rate's cycle before the first epoch that is
        trained, and after the last. With `epochs_before` a network is trained by the end of a
        longer recipe; with `epochs_after` a training stops before its end.
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
    images: int | None = None
    dropout: float | None = None
    epochs_before: int = 0
    epochs_after: int = 0

    def images_of(self, available: int) -> int:
        """The number of images in an epoch, of so many training images."""
        return available if self.images is None else min(self.images, available)

    def last(self, epochs: int) -> Recipe:
        """The last epochs of this recipe: rewinding of the learning rate (Renda et al. 2020,
        arXiv:2003.02389).
        """
        return replace(self, epochs=epochs, epochs_before=self.epochs - epochs)

    def all_but(self, epochs: int) -> Recipe:
        """This recipe, stopped so many epochs before its end."""
        return replace(self, epochs=self.epochs - epochs, epochs_after=epochs)


@dataclass(frozen=True)
class Epoch:
    """The figures of one epoch of training.

    Attributes
    ----------
    epoch : number of the epoch, from 1.
    loss : mean training loss in nats, with label smoothing.
    accuracy : fraction of augmented training images that were classified correctly in training.
    """

    epoch: int
    loss: float
    accuracy: float


def train(
    net: nn.Module,
    images: LabelledImages,
    preprocessing: Preprocessing,
    recipe: Recipe,
    seed: int,
    flip_keeps_label: bool,
    report: Callable[[Epoch], None] = lambda _: None,
    checkpoints: Checkpoints | None = None,
) -> list[Epoch]:
    """Trains the network in place; the same seed gives the same weights on one CPU machine.

    Parameters
    ----------
    net : maps scaled images [N, 3, H, W] to logits [N, classes].
    images : training images, uint8 [N, 3, H, W]. They are copied to the network's device once if
        they take at most `RESIDENT_BYTES`, else batch by batch.
    seed : seed of the images of each epoch, their order, the augmentation and the dropout.
    flip_keeps_label : whether mirrored images of the data set keep their label.
    report : called after every epoch.
    checkpoints : an earlier call that was interrupted kept its state there, and this one goes on
        after that epoch. On the same kind of machine, with the same images and number of threads,
        it ends with the same weights as without the interruption. What a module keeps elsewhere
        than in parameters and buffers is not restored.

    Returns
    -------
    One `Epoch` per epoch, including those of the interrupted call.

    Raises
    ------
    Diverged
        If the loss of an epoch or, at the end, a weight is NaN or infinite.
    """
    device = device_of(net)
    precision = resolve(recipe.precision, device)
    scale = preprocessing.on(device)
    images = images.resident(device)
    flip = recipe.flip and flip_keeps_label
    generator = torch.Generator().manual_seed(derive(seed, "batches"))
    count = recipe.images_of(len(images))
    batch = min(recipe.batch_size, count)
    steps = count // batch
    first = recipe.epochs_before * steps
    cycle = first + (recipe.epochs + recipe.epochs_after) * steps
    optimiser = _optimiser(net, recipe)
    criterion = nn.CrossEntropyLoss(label_smoothing=recipe.label_smoothing)
    net.train()
    history: list[Epoch] = []
    state = TrainingState(net, optimiser, generator)
    began = ""
    generators = [device] if device.type == "cuda" else []
    with (
        torch.random.fork_rng(devices=generators),
        subsampled_first(net),
        _dropping_out(net, recipe.dropout),
    ):
        torch.manual_seed(derive(seed, "dropout"))
        if checkpoints is not None:
            how = (TRAINING_VERSION, asdict(recipe), seed, flip, precision, device.type)
            began = state.beginning(*how, len(images))
            if (found := checkpoints.last(began)) is not None:
                state.restore(found.tensors)
                history.extend(found.history)
        for epoch in range(len(history), recipe.epochs):
            # Sum on the device and read once per epoch, because a read makes the CPU wait.
            loss_sum = torch.zeros((), dtype=torch.float64, device=device)
            right = torch.zeros((), dtype=torch.int64, device=device)
            order = torch.randperm(len(images), generator=generator)[:count].to(images.device)
            crops = Crops.draw(steps * batch, generator, recipe.crop_padding, flip, device)
            for step in range(steps):
                rate = one_cycle(recipe, (first + epoch * steps + step + 0.5) / cycle)
                for group in optimiser.param_groups:
                    group["lr"] = rate
                part = slice(step * batch, (step + 1) * batch)
                pixels, labels = images.batch(order[part], device)
                with autocast(precision, device):
                    logits = net(scale(crops[part].of(pixels)))
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
            if checkpoints is not None and epoch + 1 < recipe.epochs and checkpoints.due():
                checkpoints.keep(Checkpoint(began, state.tensors(), tuple(history)))
            report(history[-1])
    if recipe.recalibrate and recipe.epochs > 0:
        recalibrate(net, images, preprocessing, recipe, derive(seed, "end"), flip_keeps_label)
    # The last step may overflow, and no later loss would show it.
    if not all_finite(net):
        raise Diverged(f"a weight is NaN or infinite after epoch {recipe.epochs}, the last")
    return history


@contextmanager
def _dropping_out(net: nn.Module, probability: float | None) -> Iterator[None]:
    """Gives the dropout layers this probability, and back their own."""
    own = {module: module.p for module in net.modules() if isinstance(module, DROPOUTS)}
    if probability is not None:
        for module in own:
            module.p = probability
    try:
        yield
    finally:
        for module, before in own.items():
            module.p = before


def one_cycle(recipe: Recipe, progress: float) -> float:
    """The learning rate when the fraction `progress` in [0, 1] of all steps is done."""
    if progress < recipe.warmup:
        return recipe.learning_rate * progress / recipe.warmup
    decay = (progress - recipe.warmup) / (1 - recipe.warmup) if recipe.warmup < 1 else 1.0
    return recipe.learning_rate * 0.5 * (1 + math.cos(math.pi * decay))


def recalibrate(
    net: nn.Module,
    images: LabelledImages,
    preprocessing: Preprocessing,
    recipe: Recipe,
    seed: int,
    flip_keeps_label: bool,
    batch: int = RECALIBRATION_BATCH,
) -> None:
    """Re-estimates the running statistics of batch normalisation in place; weights do not change.

    Each running mean and variance becomes the average over the batches of 2,048 training images,
    without dropout, in fp32. The images are shifted and mirrored as in training: weights that were
    trained on shifted images, with their black borders, fit the statistics of such images, and
    those of unshifted images lower the accuracy. A network without batch normalisation does not
    change.

    Parameters
    ----------
    images : training images, uint8 [N, 3, H, W], on any device.
    recipe : how the network was trained; only its augmentation counts.
    seed : seed of the choice of images and of the augmentation.
    flip_keeps_label : whether mirrored images of the data set keep their label.
    """
    norms = [module for module in net.modules() if isinstance(module, BATCH_NORMS)]
    if not norms:
        return
    device = device_of(net)
    generator = torch.Generator().manual_seed(derive(seed, "recalibration"))
    count = min(len(images), RECALIBRATION_IMAGES)
    chosen = torch.randperm(len(images), generator=generator)[:count]
    flip = recipe.flip and flip_keeps_label
    crops = Crops.draw(count, generator, recipe.crop_padding, flip, device)
    momenta = [norm.momentum for norm in norms]
    training = net.training
    net.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.train()
    scale = preprocessing.on(device)
    with torch.no_grad(), full_precision(), reading({norm: _averages(norm) for norm in norms}):
        for start in range(0, count, batch):
            if count - start < batch <= count:
                break  # an incomplete last batch would have the weight of a full one
            part = slice(start, start + batch)
            pixels, _ = images.batch(chosen[part], device)
            net(scale(crops[part].of(pixels)))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    net.train(training)


def _averages(norm: BatchNorm) -> Callable[[Tensor], None]:
    """A function, called before each batch, with which the statistics are a plain average.

    `momentum = None` means the same to torch, but reads the number of batches from the device,
    for which the CPU waits in each layer.
    """
    batches = itertools.count(1)

    def count(_: Tensor) -> None:
        norm.momentum = 1 / next(batches)

    return count


def _optimiser(net: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
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
