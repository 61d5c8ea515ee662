"""Exports networks for use without prune-sweep, as torch.export programs and ONNX models.

Both take uint8 images [N, 3, H, W] for any N and return fp32 logits [N, classes]. The scaling of
the colours is included. Each file is read back and checked after it was written.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.export import Dim, ExportedProgram

from prune_core.classifier import Classifier
from prune_core.precision import full_precision

TOLERANCE = 1e-4
"""Allowed difference relative to the largest absolute logit, for other orders of rounding."""
MARGIN = 4
"""Allowed difference in multiples of that between fp32 and fp64, where this is more.

In a network with collapsed layers, differences of rounding grow from layer to layer. Two fp32
programs may differ from fp64 in opposite directions.
"""
LARGEST_TOLERANCE = 0.1
"""However large the rounding, a larger difference is a fault."""

_BATCHES = (1, 2, 7, 64)


class ExportError(ValueError):
    """An exported network does not give the logits of the original network."""


def export_program(net: Classifier, path: Path) -> float:
    """Writes a `torch.export` program, reads it back and compares the logits.

    The file contains a pickle, so load such a file only if you trust its source.

    Returns
    -------
    float, the largest difference of the logits, relative to the largest absolute logit.

    Raises
    ------
    ExportError
        If the difference is above `TOLERANCE`, and above `MARGIN` times that of fp32 and fp64.
    """
    with warnings.catch_warnings():
        # torch warns that channels-last tensors may be a problem on devices other than the CPU.
        warnings.filterwarnings("ignore", "No complete tensor found in the group")
        torch.export.save(_program(net), path)
    return _difference(net, torch.export.load(path).module(), path)


def export_onnx(net: Classifier, path: Path) -> float:
    """Writes an ONNX model with input `images` and output `logits`, and compares the logits.

    Returns
    -------
    float, as in `export_program`.

    Raises
    ------
    ExportError
        If the difference is above `TOLERANCE`, and above `MARGIN` times that of fp32 and fp64.
    ImportError
        If the packages of the extra `onnx` are not installed.
    """
    import onnxruntime  # type: ignore[import-untyped]

    model = torch.onnx.export(
        _program(net),
        dynamo=True,
        input_names=["images"],
        output_names=["logits"],
        verbose=False,
    )
    assert model is not None
    (images,) = model.model.graph.inputs
    assert images.shape is not None
    model.rename_axes({str(images.shape[0]): "batch"})
    for node in model.model.graph:
        node.metadata_props.clear()
    # Remove other metadata and store only the class names with the model.
    model.model.metadata_props["class_names"] = "\n".join(net.class_names)
    model.save(path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def run(images: Tensor) -> Tensor:
        (logits,) = session.run(["logits"], {"images": images.numpy()})
        return torch.from_numpy(logits)

    return _difference(net, run, path)


def _program(net: Classifier) -> ExportedProgram:
    example = torch.zeros((2, *net.image_shape), dtype=torch.uint8)
    with torch.no_grad(), full_precision():
        program = torch.export.export(
            net, (example,), dynamic_shapes=({0: Dim("batch", min=1)},), strict=False
        )
    for node in program.graph.nodes:
        # Remove paths of source files on this machine from the exported file.
        node.meta.pop("stack_trace", None)
    return program


def _difference(net: Classifier, other: Callable[[Tensor], Tensor], path: Path) -> float:
    exact = _exact(net)
    generator = torch.Generator().manual_seed(0)
    largest = 0.0
    for batch in _BATCHES:
        shape = (batch, *net.image_shape)
        images = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
        with torch.inference_mode(), full_precision():
            expected, found, rounded = net(images), other(images), exact(images)
        difference = _relative(found, expected)
        rounding = _relative(expected, rounded)
        allowed = min(max(TOLERANCE, MARGIN * rounding), LARGEST_TOLERANCE)
        # `not <=` also refuses NaN.
        if not difference <= allowed:
            raise ExportError(
                f"{path} gives other logits than the network: the relative difference is "
                f"{difference:.2g} for {batch} images; {allowed:.2g} is allowed, since fp32 and "
                f"fp64 differ by {rounding:.2g}"
            )
        largest = max(largest, difference)
    return largest


def _relative(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).abs().max() / expected.abs().max())


def _exact(net: Classifier) -> Callable[[Tensor], Tensor]:
    """The network in fp64, or as it is if it cannot compute in fp64."""
    exact = copy.deepcopy(net).double()
    try:
        with torch.inference_mode():
            exact(torch.zeros((1, *net.image_shape), dtype=torch.uint8))
    except RuntimeError:
        # A person's own forward method may convert to float32.
        return net
    return exact
