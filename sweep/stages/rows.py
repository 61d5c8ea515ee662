"""The columns of a row besides its figures: the cell's identity, and where it ran."""

from __future__ import annotations

import json
import platform
import socket
import subprocess
from dataclasses import asdict
from datetime import datetime
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path
from typing import Any

import torch

from prune_core.evaluation import Evaluation
from prune_core.precision import best_device, resolve
from prune_core.training import Recipe
from sweep.planning.cells import Cell

Row = dict[str, Any]


def identity_row(cell: Cell, sweep: str) -> Row:
    """The columns that identify the cell."""
    baseline, dataset, budget = cell.baseline, cell.baseline.dataset, cell.budget
    return {
        "key": cell.key,
        "baseline_key": baseline.key,
        "sweep": sweep,
        **cell.axes,
        "source": dataset.source,
        "dataset_fingerprint": dataset.fingerprint,
        "classes": dataset.classes,
        "train_images": dataset.train_images,
        "validation_images": dataset.validation_images,
        "test_images": dataset.test_images,
        "own_validation": dataset.own_validation,
        "images_skipped": dataset.skipped,
        "train_duplicates": dataset.copies.train,
        "validation_duplicates": dataset.copies.validation,
        "test_duplicates": dataset.copies.test,
        "test_duplicates_other_label": dataset.copies.test_other_label,
        "variant": baseline.variant,
        "width": baseline.width,
        "network_options": json.dumps(dict(baseline.options), sort_keys=True),
        "groups": baseline.architecture.grouping,
        "combine": cell.combine,
        "image_height": dataset.image_size[0],
        "image_width": dataset.image_size[1],
        "weights": baseline.weights.fingerprint if baseline.weights else None,
        "metric_options": _options(cell),
        "min_channels": budget.floor.channels,
        "min_channels_fraction": budget.floor.fraction,
        "round_to": budget.floor.round_to,
        "compensation_options": json.dumps(
            cell.compensation_identity.get("compensation", {}).get("options", {}), sort_keys=True
        ),
        "epochs": baseline.recipe.epochs,
        "baseline_images": baseline.recipe.images_of(dataset.train_images),
        "finetune_recipe": json.dumps(asdict(cell.finetune), sort_keys=True),
        "schedule_options": json.dumps(cell.schedule.options, sort_keys=True),
        "finetune_epochs": cell.finetune.epochs,
        "finetune_images": cell.finetune.images_of(dataset.train_images),
        "scores_key": cell.importance.key if cell.importance else None,
        "identity": cell.identity,
    }


def provenance(recipe: Recipe, started: datetime) -> Row:
    """The columns of start time, host, hardware and software versions.

    Parameters
    ----------
    recipe : of the training; its precision depends on the device.
    """
    device = best_device()
    return {
        "started_at": started,
        "host": socket.gethostname(),
        "device": device_name(device),
        "threads": torch.get_num_threads(),
        "precision": resolve(recipe.precision, device),
        "git_revision": git_revision(),
        "version_prune_sweep": version_of("prune-sweep"),
        "version_python": platform.python_version(),
        "version_torch": torch.__version__,
        "version_torchvision": version_of("torchvision"),
        "version_ray": version_of("ray"),
        "version_numpy": version_of("numpy"),
    }


def evaluation_columns(stage: str, validation: Evaluation, test: Evaluation) -> Row:
    """The columns of one stage's accuracies and losses."""
    return {
        f"{stage}_{split}_{name}": value
        for split, evaluation in (("validation", validation), ("test", test))
        for name, value in vars(evaluation).items()
    }


def _options(cell: Cell) -> str:
    importance = cell.importance
    if importance is None:
        return "{}"
    images = {"images": importance.images} if importance.images else {}
    return json.dumps({**dict(importance.choice.options), **images}, sort_keys=True)


def device_name(device: torch.device) -> str:
    """The name of the GPU, or of the processor as the operating system reports it."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return _processor()


@lru_cache(maxsize=1)
def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


@lru_cache(maxsize=1)
def git_revision() -> str | None:
    """The commit of the checkout or the installed package; `-dirty` if files were changed."""
    here = Path(__file__).resolve()

    def git(*words: str) -> str:
        command = ["git", "-C", str(here.parent), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        # An installed copy may be inside another repository that does not track it.
        git("ls-files", "--error-unmatch", here.name)
        revision = git("rev-parse", "HEAD")
        return f"{revision}-dirty" if git("status", "--porcelain", "-uno") else revision
    except (OSError, subprocess.CalledProcessError):
        return _installed_from()


def _installed_from() -> str | None:
    """The commit that pip or `submit` stored with the installed code."""
    try:
        origin = json.loads(distribution("prune-sweep").read_text("direct_url.json") or "{}")
    except PackageNotFoundError:
        return None
    return origin.get("vcs_info", {}).get("commit_id")


def version_of(distribution: str) -> str | None:
    """The version of an installed distribution, or None if it is not installed."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None
