"""Exported networks give the original's logits in programs without prune-sweep."""

import copy
import subprocess
import sys
import zipfile

import onnx
import pytest
import torch

from prune_core.classifier import Classifier
from prune_core.programs import (
    LARGEST_TOLERANCE,
    TOLERANCE,
    ExportError,
    _difference,
    _exact,
    export_onnx,
    export_program,
)

NAMES = ("ant", "bee", "cat", "dog")


@pytest.fixture(scope="module")
def net(small, lived_in, scaling):
    return Classifier(lived_in(small), scaling, NAMES)


@pytest.fixture(scope="module")
def exported(net, tmp_path_factory):
    """A folder with both files, and batches of images with their logits."""
    folder = tmp_path_factory.mktemp("exported")
    differences = [
        export_program(net, folder / "model.pt2"),
        export_onnx(net, folder / "model.onnx"),
    ]
    assert all(0 <= difference <= TOLERANCE for difference in differences)
    generator = torch.Generator().manual_seed(1)
    for batch in (1, 2, 33):
        images = torch.randint(0, 256, (batch, 3, 32, 32), generator=generator, dtype=torch.uint8)
        with torch.inference_mode():
            torch.save((images, net(images)), folder / f"{batch}.pt")
    return folder


PROGRAM = """
import sys, torch
program = torch.export.load(folder + "/model.pt2").module()
run = lambda images: program(images)
"""
ONNX = """
import sys, onnxruntime, torch
session = onnxruntime.InferenceSession(folder + "/model.onnx")
run = lambda images: torch.from_numpy(session.run(None, {"images": images.numpy()})[0])
"""
CHECK = """
import numpy
for batch in (1, 2, 33):
    images, expected = torch.load(f"{folder}/{batch}.pt")
    found = run(images)
    assert found.shape == expected.shape and found.dtype == torch.float32
    assert torch.equal(found.argmax(1), expected.argmax(1))
    print(batch, float((found - expected).abs().max() / expected.abs().max()))
assert not any(name.split(".")[0] in ("prune_core", "sweep") for name in sys.modules)
"""


@pytest.mark.parametrize("load", [PROGRAM, ONNX], ids=["torch.export", "ONNX"])
def test_a_fresh_process_without_prune_sweep_gets_the_same_logits(exported, load, tmp_path):
    script = f"folder = {str(exported)!r}\n{load}{CHECK}"
    done = subprocess.run(
        [sys.executable, "-I", "-c", script], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    assert [line[0] for line in lines] == ["1", "2", "33"]
    assert all(float(line[1]) <= TOLERANCE for line in lines)


def test_the_onnx_model_describes_its_input_and_output(exported):
    model = onnx.load(exported / "model.onnx")
    onnx.checker.check_model(model, full_check=True)
    (images,), (logits,) = model.graph.input, model.graph.output

    def shape(value):
        return [side.dim_param or side.dim_value for side in value.type.tensor_type.shape.dim]

    assert (images.name, shape(images)) == ("images", ["batch", 3, 32, 32])
    assert images.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert (logits.name, shape(logits)) == ("logits", ["batch", 4])
    assert {entry.key: entry.value for entry in model.metadata_props} == {
        "class_names": "\n".join(NAMES)
    }
    assert {path.name for path in exported.glob("model*")} == {"model.onnx", "model.pt2"}


def test_no_path_of_this_machine_is_in_the_files(exported):
    with zipfile.ZipFile(exported / "model.pt2") as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    parts["model.onnx"] = (exported / "model.onnx").read_bytes()
    source = str(__file__).removesuffix("tests/prune_core/test_export.py").encode()
    assert [name for name, content in parts.items() if source in content] == []


def test_a_program_that_gives_other_logits_is_refused(net, tmp_path):
    for other in (
        lambda images: net(images) * (1 + 3 * TOLERANCE),
        lambda images: net(images) * float("nan"),
        lambda images: net(images.flip(1)),
    ):
        with pytest.raises(ExportError, match="other logits"):
            _difference(net, other, tmp_path)
    assert _difference(net, lambda images: net(images) * (1 + TOLERANCE / 3), tmp_path) > 0


def test_rounding_of_fp32_is_no_fault(net, tmp_path):
    """Large weights of two equal channels cancel, as layers of a collapsed network do."""
    rough = copy.deepcopy(net)
    block, classifier = rough.net.blocks[-1], rough.net.classifier
    with torch.no_grad():
        for values in (*block.parameters(), *block.buffers()):
            if values.ndim:
                values[-1] = values[0]
        block.bn.bias[[0, -1]] = 3  # the channels are not dead
        # Not neighbours: what is added between them is rounded.
        classifier.weight[:, 0] = 1e5
        classifier.weight[:, -1] = -1e5
    exact = copy.deepcopy(rough).double()
    found = _difference(rough, lambda images: exact(images).float(), tmp_path)
    assert TOLERANCE < found < LARGEST_TOLERANCE
    for factor in (1 + 2 * LARGEST_TOLERANCE, -1, float("nan")):
        with pytest.raises(ExportError, match="fp32 and fp64 differ by"):
            _difference(rough, lambda images, by=factor: rough(images) * by, tmp_path)


def test_a_network_without_fp64_has_the_fixed_tolerance(net, tmp_path):
    class Narrow(torch.nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner = inner

        def forward(self, images):
            return self.inner(images.float())

    narrow = copy.deepcopy(net)
    narrow.net = Narrow(narrow.net)
    assert _exact(narrow) is narrow
    assert _difference(narrow, net, tmp_path) == 0


def test_exporting_changes_nothing(net, scaling, coloured, tmp_path):
    images = coloured(5).images
    with torch.inference_mode():
        before = net(images)
    export_program(net, tmp_path / "model.pt2")
    assert not net.training
    with torch.inference_mode():
        assert torch.equal(net(images), before)
