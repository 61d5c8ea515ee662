"""The README.md of an exported network: its accuracy, size, use and origin."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from prune_core.classifier import Classifier
from prune_core.networks import ModuleArchitecture, architecture_of
from prune_core.networks.own import OwnNetwork
from prune_core.programs import MARGIN, TOLERANCE
from prune_core.schedule import Schedule
from results.formatting import several
from results.storage.schema import SCRATCH, SPLITS, STAGES, UNPRUNED
from sweep.execution.terminal import plain
from sweep.stages.rows import Row

CARD, PROGRAM, ONNX = "README.md", "model.pt2", "model.onnx"

_STAGE_WORDS = {
    "baseline": "before pruning",
    "pruned": "pruned",
    "compensated": "compensated",
    "recalibrated": "batch normalisation re-estimated",
    "finetuned": "fine-tuned: this network",
    "none": "not fine-tuned: this network",
    SCRATCH: "trained from new weights: this network",
}

_USE = """## Use

The input is a batch of RGB images of {height} x {width} pixels (height x width), values 0 to 255,
type uint8, shape [N, 3, {height}, {width}] for any N. All files include the scaling of the colours,
so do not scale the images yourself. The output is the logits, fp32 [N, {classes}]; the largest one
is the predicted class.

```python
import numpy
from PIL import Image

image = Image.open("image.png").convert("RGB")
image = image.resize(({width}, {height}), Image.Resampling.BILINEAR)
images = numpy.asarray(image).transpose(2, 0, 1)[None].copy()
```

With prune-sweep, run `prune-sweep predict . image.png{option}`, or in Python:

```python
import prune_core
import torch

net = prune_core.load("."{argument})
logits = net(torch.from_numpy(images))
```
"""

_USE_PROGRAM = """
With torch alone:

```python
import torch

net = torch.export.load("model.pt2").module()
logits = net(torch.from_numpy(images))
```
"""

_USE_ONNX = """
With ONNX Runtime:

```python
import onnxruntime

session = onnxruntime.InferenceSession("model.onnx")
(logits,) = session.run(["logits"], {"images": images})
```
"""

_SAFETY = """
`network.safetensors`, `network.json` and ONNX files hold only numbers and text; reading them does
not execute code. `model.pt2` is a zip file that may contain a pickle, and `torch.export.load` may
unpickle it, which can execute code. Open it only if you trust its source.
"""


@dataclass(frozen=True)
class Content:
    """What a card says of one network, besides how to use its files.

    Attributes
    ----------
    title : one line.
    accuracy : the section below the heading "Accuracy".
    costs : the columns of a row for size, latency, device and threads.
    made : how it was made, by short names.
    """

    title: str
    accuracy: str
    costs: Row
    made: Mapping[str, str]


def card(content: Content, net: Classifier, differences: Mapping[str, float]) -> str:
    """The text of the card.

    Parameters
    ----------
    differences : for each program that was written, the largest difference of its logits from
        the network's, relative to the largest absolute logit.
    """
    parts = [
        f"# {one_line(content.title)}",
        f"## Accuracy\n\n{content.accuracy}",
        _size(content.costs),
        _classes(net),
        _use(net),
        _USE_PROGRAM if PROGRAM in differences else "",
        _USE_ONNX if ONNX in differences else "",
        _checked(differences) if differences else "",
        _SAFETY,
        "## How it was made\n\n"
        + "\n".join(f"- {name}: {one_line(fact)}" for name, fact in content.made.items()),
    ]
    return "\n".join(part.strip() + "\n" for part in parts if part)


def of_cell(row: Row) -> Content:
    """What the card of a cell's network says.

    Parameters
    ----------
    row : the row of the cell.
    """
    title = f"{row['variant']} for {row['dataset']}, with {percent(row['parameter_ratio'])}"
    return Content(f"{title} of its parameters", _accuracy(row), row, _made(row))


def _own_source(net: Classifier) -> str | None:
    """File and function of a person's own network; None for a registered network."""
    architecture = architecture_of(net.net)
    if isinstance(architecture, ModuleArchitecture):
        builder = architecture.builder
        return builder.source.name if isinstance(builder, OwnNetwork) else None
    return None


def _use(net: Classifier) -> str:
    _, height, width = net.image_shape
    own = _own_source(net)
    words = _USE.format(
        classes=len(net.class_names),
        height=height,
        width=width,
        option=f" --source {own}" if own else "",
        argument=f', source="{own}"' if own else "",
    )
    if own:
        words += (
            f"\nThe network is built by {own}, which is not in this folder. `model.pt2` and "
            "`model.onnx` do not need it.\n"
        )
    return words


def _accuracy(row: Row) -> str:
    lines = ["| network | validation | test |", "| --- | ---: | ---: |"]
    for stage in STAGES:
        # Controls have fewer stages, and not every cell compensates.
        if row[f"{stage}_test_top1"] is not None:
            figures = (percent(row[f"{stage}_{split}_top1"]) for split in SPLITS)
            words = _STAGE_WORDS[_last(row) if stage == STAGES[-1] else stage]
            lines.append(f"| {words} | {' | '.join(figures)} |")
    lines += [
        "",
        f"Top-1, on {row['validation_images']:,} images held out from training and on "
        f"{row['test_images']:,} test images. Top-5 on the test images is "
        f"{percent(row['finetuned_test_top5'])}. Use the validation figures to choose a network "
        "and the test figures to report it.",
    ]
    return "\n".join(lines)


def _last(row: Row) -> str:
    """What `_STAGE_WORDS` calls the last stage."""
    if row["metric"] == SCRATCH:
        return SCRATCH
    return "finetuned" if row["finetune_epochs"] else "none"


def _size(row: Row) -> str:
    lines = [
        "## Size and speed",
        "",
        "| | this network | before pruning |",
        "| --- | ---: | ---: |",
        f"| parameters | {row['parameters']:,} | {row['parameters_full']:,} |",
        f"| multiply-accumulates an image | {row['macs']:,} | {row['macs_full']:,} |",
    ]
    for batch in (1, 256):
        cells = [_milliseconds(row, of, batch) for of in ("", "full_")]
        lines.append(f"| ms an image at batch {batch} | {' | '.join(cells)} |")
    lines += [
        "",
        f"Times are medians with interquartile ranges in brackets, measured on "
        f"{one_line(row['device'])} (CPU threads: {row['threads']}) in fp32. "
        f"Widths: {', '.join(map(str, row['widths']))}.",
    ]
    return "\n".join(lines)


def _milliseconds(row: Row, of: str, batch: int) -> str:
    # A latency that would take too long to measure is left out.
    median, spread = (row.get(f"latency_{of}{batch}{figure}_ms") for figure in ("", "_iqr"))
    return "not measured" if median is None else f"{median:.4g} ({spread:.2g})"


def _classes(net: Classifier) -> str:
    count = len(net.class_names)
    if net.class_names == tuple(map(str, range(count))):
        return f"## Classes\n\n{count}, without names, numbered from 0."
    names = ", ".join(f"{at} {one_line(name)}" for at, name in enumerate(net.class_names))
    return f"## Classes\n\n{count}: {names}."


def _checked(differences: Mapping[str, float]) -> str:
    words = ", ".join(f"`{name}` {value:.1g}" for name, value in differences.items())
    return (
        "Each program was checked on batches of 1 to 64 random images when it was written. The "
        "largest difference of its logits from the network's, relative to the largest logit, is "
        f"{words}. Allowed is {TOLERANCE:g}, or {MARGIN} times the difference between the network "
        "in fp32 and in fp64 where this is more."
    )


def _made(row: Row) -> dict[str, str]:
    used = dict.fromkeys(_plugins(json.loads(row["identity"])))
    return {
        "data": f"{row['dataset']} ({row['source']}), fingerprint "
        f"{row['dataset_fingerprint']}, {row['train_images']:,} training images",
        "network": f"{row['variant']}, width {row['width']:g}, options "
        f"{row['network_options'] or '{}'}, channel groups {row['groups'] or 'all'}",
        "training": f"{_training(row)}, schedule {row['schedule']}, seed {row['seed']}, "
        f"{row['precision']}",
        "metric": f"{row['metric']}, options {row['metric_options']}",
        "budget": f"{row['budget']}, normalisation {row['normalisation']}, ratio "
        f"{row['ratio']:.4g} of the {row['ratio_of']} requested; "
        f"{row['parameter_ratio']:.4f} of the parameters and {row['mac_ratio']:.4f} of the macs "
        "achieved",
        "compensation": f"{row['compensation']}, options {row['compensation_options'] or '{}'}",
        **({"plug-ins": f"files with the fingerprints {', '.join(used)}"} if used else {}),
        "cell": f"{row['key']} of sweep {row['sweep']}, baseline {row['baseline_key']}",
        "finished": f"{row['finished_at']:%Y-%m-%d %H:%M} UTC",
        "versions": f"prune-sweep {row['version_prune_sweep']} "
        f"({row['git_revision'] or 'not from a checkout'}), torch {row['version_torch']}, "
        f"Python {row['version_python']}",
    }


def _training(row: Row) -> str:
    """How long the network was trained, and by which recipe it was fine-tuned."""
    before, after = (several(row[name], "epoch") for name in ("epochs", "finetune_epochs"))
    if row["metric"] == SCRATCH:
        return f"{after} from new weights by the baseline's recipe"
    if row["finetune_epochs"] == 0:
        return f"{before}, not fine-tuned"
    steps = Schedule.parse(row["schedule"]).steps
    if row["metric"] == UNPRUNED:
        when = "without pruning"
    else:
        when = f"after each of {steps} prunings" if steps > 1 else "after pruning"
    return f"{before}, then {row['finetune_epochs']} {when} by recipe {row['finetune']}"


def _plugins(identity: Any) -> Iterator[str]:
    """The fingerprints of the plug-ins that an identity names, at any depth."""
    if isinstance(identity, dict):
        if isinstance(fingerprint := identity.get("plugin"), str):
            yield fingerprint
        identity = list(identity.values())
    if isinstance(identity, list):
        for part in identity:
            yield from _plugins(part)


def percent(fraction: float) -> str:
    """A fraction in percent, with two decimals."""
    return f"{100 * fraction:.2f} %"


def one_line(text: str) -> str:
    """Text from data as one line, so that it cannot change the Markdown structure."""
    return " ".join(plain(text).split())
