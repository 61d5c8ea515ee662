"""Networks for programs that have no prune-sweep: torch.export and ONNX, checked as written.

Both take uint8 images [N, 3, 32, 32] for any N and give fp32 logits [N, classes]; the scaling of
the colours is inside.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.export import Dim, ExportedProgram

from prune_core.classifier import IMAGE_SHAPE, Classifier
from prune_core.precision import full_precision

TOLERANCE = 1e-4
"""Of the largest absolute logit: what rounding in another order may change, and no more."""

_BATCHES = (1, 2, 7, 64)


class ExportError(ValueError):
    """An exported network that does not give the logits of the original."""


def export_program(net: Classifier, path: Path) -> float:
    """Writes a `torch.export` program and reads it back; returns the largest difference.

    Only for one's own files: torch puts a pickle into them, and unpickles what it reads.

    Returns
    -------
    float, of the logits of what was read back, as a fraction of the largest absolute logit.

    Raises
    ------
    ExportError
        If it is above `TOLERANCE`.
    """
    with warnings.catch_warnings():
        # Tensors that lie channels last make it say that this may matter off the CPU.
        warnings.filterwarnings("ignore", "No complete tensor found in the group")
        torch.export.save(_program(net), path)
    return _difference(net, torch.export.load(path).module(), path)


def export_onnx(net: Classifier, path: Path) -> float:
    """Writes an ONNX model, input `images`, output `logits`; otherwise as `export_program`.

    Raises
    ------
    ImportError
        Without the packages of the extra `onnx`.
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
    # Names are all that the file has to say beside the model.
    model.model.metadata_props["class_names"] = "\n".join(net.class_names)
    model.save(path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def run(images: Tensor) -> Tensor:
        (logits,) = session.run(["logits"], {"images": images.numpy()})
        return torch.from_numpy(logits)

    return _difference(net, run, path)


def _program(net: Classifier) -> ExportedProgram:
    example = torch.zeros((2, *IMAGE_SHAPE), dtype=torch.uint8)
    with torch.no_grad(), full_precision():
        program = torch.export.export(
            net, (example,), dynamic_shapes=({0: Dim("batch", min=1)},), strict=False
        )
    for node in program.graph.nodes:
        # Where our source lies on this machine is nobody's business.
        node.meta.pop("stack_trace", None)
    return program


def _difference(net: Classifier, other: Callable[[Tensor], Tensor], path: Path) -> float:
    generator = torch.Generator().manual_seed(0)
    largest = 0.0
    for batch in _BATCHES:
        shape = (batch, *IMAGE_SHAPE)
        images = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
        with torch.inference_mode(), full_precision():
            expected, found = net(images), other(images)
        difference = float((expected - found).abs().max() / expected.abs().max())
        # Written so that NaN is refused too.
        if not difference <= TOLERANCE:
            raise ExportError(
                f"{path} gives other logits than the network: they differ by {difference:.2g} of "
                f"the largest for {batch} images, where {TOLERANCE:g} is allowed"
            )
        largest = max(largest, difference)
    return largest
