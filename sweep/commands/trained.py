"""The trained network that a person names, a folder or a checkpoint, and its images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError

from prune_core.classifier import Classifier, load
from prune_core.images import Images, Size, Split, class_names
from prune_core.images import load as load_images
from prune_core.network_files import DESCRIPTION
from prune_core.networks import architecture_of
from prune_core.networks.weights import load_weights, read_weights
from prune_core.options import named_options
from prune_core.preprocessing import Preprocessing
from sweep.errors import SpecError, UserError
from sweep.planning.network import network_of
from sweep.spec.fields import Spec
from sweep.spec.networks import NetworkSpec
from sweep.stages.artifacts import BASELINES
from sweep.stages.kept_networks import FOLDER

HOLDOUT: float = Spec.model_fields["holdout"].default
"""The training images that a sweep holds out are not read, so that they can be used to choose."""

LARGEST_PIXEL = 255
"""Means and deviations of colours are stored in units of 0 to 255, and written in 0 to 1."""


@dataclass(frozen=True)
class Source:
    """The images of a command.

    Attributes
    ----------
    name : such as cifar10 or parquet:FOLDER.
    data : where relative folders start.
    test_images : the number of first test images; all if not given.
    """

    name: str
    data: Path | None = None
    test_images: int | None = None


@dataclass(frozen=True)
class Origin:
    """Where a trained network comes from.

    Attributes
    ----------
    path : a folder that `export`, `prune` or a sweep wrote, or a checkpoint file.
    source : file and function of a person's own network; this code is run.
    variant, width, groups, mean, deviation : of a checkpoint; see `NetworkSpec`. The colours are
        three numbers with commas.
    options : of a checkpoint's network, each as name=value.
    image_size : of a checkpoint's images; the source's own size if not given.
    """

    path: Path
    source: str | None = None
    variant: str | None = None
    width: float | None = None
    options: Sequence[str] = ()
    groups: str | None = None
    mean: str | None = None
    deviation: str | None = None
    image_size: Size | None = None

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder and not a checkpoint.

        Raises
        ------
        UserError
            If it is neither, or options do not belong to it.
        """
        if self.path.is_dir():
            only = ("variant", "width", "options", "groups", "mean", "deviation", "image_size")
            given = [name for name in only if getattr(self, name) not in (None, ())]
            if given:
                word = given[0].replace("options", "option").replace("_", "-")
                raise UserError(
                    f"--{word} is for checkpoint files; the folder {self.path} says itself how its "
                    "network is built and how images are scaled"
                )
            if not (self.path / DESCRIPTION).exists():
                raise UserError(self._not_a_network())
            return True
        if not self.path.exists():
            raise UserError(f"there is no folder or file {self.path}")
        if self.variant is not None and self.source is not None:
            raise UserError("--variant and --source name two networks; give one of the two")
        if self.variant is None and self.source is None:
            raise UserError(
                f"{self.path} is a file, so name the network that its weights belong to: either "
                "--variant resnet56 (`prune-sweep networks` lists them) or --source my_net.py:build"
            )
        return False

    @property
    def name(self) -> str:
        """A short name for files: that of the folder, or of the file without its ending."""
        path = self.path.resolve()
        return path.stem if path.is_file() else path.name

    def load(self) -> Classifier:
        """The network of a folder, on the CPU.

        Raises
        ------
        NetworkFileError, ArchitectureError
            See `prune_core.classifier.load`.
        """
        return load(self.path, self.source)

    def spec(self) -> NetworkSpec:
        """The network of a checkpoint as a spec names it.

        Raises
        ------
        SpecError
            Naming the option and what is allowed.
        """
        _, given = named_options(
            f"options({', '.join(self.options)})", "", "options(shortcut=B)", SpecError
        )
        width = self.width
        fields = {
            "variant": self.variant,
            "source": self.source,
            "width": int(width) if width is not None and width.is_integer() else width,
            "groups": self.groups,
            "mean": _colours("mean", self.mean),
            "deviation": _colours("deviation", self.deviation),
        }
        # For a person's own function, `width` is an option like others.
        reserved = {*fields, "combine"} - ({"width"} if self.source else set())
        if wrong := sorted(given.keys() & reserved):
            raise SpecError(f"--option {wrong[0]}=...: write --{wrong[0]} instead")
        named: dict[str, Any] = {name: value for name, value in fields.items() if value is not None}
        try:
            return NetworkSpec.model_validate(
                {**named, "weights": str(self.path), "options": given}
            )
        except ValidationError as error:
            raise SpecError("; ".join(map(_explained, error.errors()))) from error

    def read(
        self, images: Split, class_names: Sequence[str] | None
    ) -> tuple[Classifier, list[str]]:
        """The network of a checkpoint, on the CPU, and what the user should know of it.

        Parameters
        ----------
        images : their classes and size are those of the network. Without a mean and a deviation,
            its training images are scaled to mean 0 and deviation 1, as in a sweep.

        Raises
        ------
        SpecError, ArchitectureError
            If the network cannot be built or pruned, or the weights do not fit it.
        """
        found = network_of(self.spec(), images.classes, images.image_size)
        assert found.weights is not None
        with torch.random.fork_rng(devices=[]):
            net = found.architecture.build()
        load_weights(net, read_weights(self.path), f"weights {self.path}")
        scaling, notes = found.weights.preprocessing, list(found.fixed)
        if scaling is None:
            scaling = Preprocessing.of(images.train)
            notes.append(
                "images are scaled by the mean and the deviation of the training images; if the "
                "network was trained with others, give --mean and --deviation"
            )
        return Classifier(net, scaling, class_names), notes

    def _not_a_network(self) -> str:
        """The message for a folder without a network: which one may be meant."""
        baselines, kept = (
            sorted(path.parent for path in self.path.glob(f"{below}/*/{DESCRIPTION}"))
            for below in (f"artifacts/{BASELINES}", FOLDER)
        )
        found = [f"{baselines[0]}, which is not pruned"] if baselines else []
        found += [f"{kept[0]}, which a cell pruned"] if kept else []
        if found:
            return (
                f"{self.path} is the results folder of a sweep; name one of its "
                f"{len(baselines) + len(kept)} networks, such as {', or '.join(found)}"
            )
        return (
            f"{self.path} holds no {DESCRIPTION}; name a folder that `prune-sweep export` or "
            "`prune-sweep prune` wrote, or a checkpoint file"
        )


def opened(origin: Origin, source: Source) -> tuple[Images, Split, Classifier, list[str]]:
    """The images and the network, which fit each other, and notes on the network."""
    size, net = origin.image_size, None
    if origin.is_folder:
        net = origin.load()
        size = architecture_of(net.net).image_size
    images = load_images(source.name, image_size=size, data=source.data)
    images = images.cut(test=source.test_images)
    split, names = images.split(HOLDOUT), class_names(source.name, source.data)
    if names is not None and len(names) != images.classes:
        names = None
    if net is None:
        return images, split, *origin.read(split, names)
    if images.classes != len(net.class_names):
        raise UserError(
            f"{origin.path} is a network for {len(net.class_names)} classes, but {source.name} has "
            f"{images.classes}; give the images that it was trained on with --dataset"
        )
    if names is not None and net.class_names == _numbers(images.classes):
        net = Classifier(net.net, net.preprocessing, names)
    return images, split, net, _compared(net.class_names, names, source.name)


def _compared(of_net: tuple[str, ...], of_images: tuple[str, ...] | None, source: str) -> list[str]:
    """A note if classes have other names; refuses the same names in another order."""
    if of_images is None or of_images == of_net or _numbers(len(of_net)) in (of_images, of_net):
        return []
    at = next(at for at, name in enumerate(of_net) if name != of_images[at])
    words = f"class {at} is '{of_net[at]}' for the network, but '{of_images[at]}' in {source}"
    if sorted(of_images) == sorted(of_net):
        raise UserError(
            f"{words}: they have the same classes in another order, so every accuracy would be "
            "wrong; give the images that it was trained on with --dataset"
        )
    return [f"{words}; accuracies are right only if these are the same"]


def _numbers(classes: int) -> tuple[str, ...]:
    """The names of classes without names."""
    return tuple(map(str, range(classes)))


def _colours(name: str, text: str | None) -> list[float] | None:
    if text is None:
        return None
    try:
        found = [float(value) for value in text.split(",")]
    except ValueError:
        found = []
    if len(found) != 3:
        raise SpecError(
            f"--{name} is {text!r}; it must be three numbers from 0 to 1, for red, green and blue, "
            "such as 0.49,0.48,0.45"
        )
    return found


def _explained(problem: Any) -> str:
    """A problem of a spec, in words of the command's options."""
    field = next((f"--{step} " for step in problem["loc"] if isinstance(step, str)), "")
    message = problem["msg"].removeprefix("Value error, ")
    # What follows names fields of a spec.
    message = message.partition("; fields of every network are")[0]
    return f"{field}is {problem['input']!r}; {message}" if field else message
