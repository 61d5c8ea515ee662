import pytest
import torch

from prune_core.precision import autocast, best_device, computes_bf16, full_precision, resolve

CPU = torch.device("cpu")


def flags():
    return torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32


def set_flags(convolutions, products):
    torch.backends.cudnn.allow_tf32 = convolutions
    torch.backends.cuda.matmul.allow_tf32 = products


@pytest.fixture
def _flags_restored():
    before = flags()
    yield
    set_flags(*before)


@pytest.mark.usefixtures("_flags_restored")
@pytest.mark.parametrize("convolutions", [True, False])
@pytest.mark.parametrize("products", [True, False])
def test_full_precision_uses_fp32_and_restores_all_flags(convolutions, products):
    set_flags(convolutions, products)
    matrix = torch.randn(8, 8)
    with torch.autocast("cpu", torch.bfloat16):
        with full_precision():
            assert flags() == (False, False)
            assert (matrix @ matrix).dtype is torch.float32
        assert (matrix @ matrix).dtype is torch.bfloat16
    assert flags() == (convolutions, products)
    with pytest.raises(KeyError), full_precision():
        raise KeyError
    assert flags() == (convolutions, products)


def test_auto_is_bf16_where_the_processor_computes_it():
    assert resolve("auto", CPU) == ("bf16" if computes_bf16(CPU) else "fp32")
    assert resolve("bf16", CPU) == "bf16"
    assert resolve("fp32", CPU) == "fp32"
    assert best_device().type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize(("precision", "kind"), [("bf16", torch.bfloat16), ("fp32", torch.float32)])
def test_a_training_step_uses_the_requested_precision(precision, kind):
    matrix = torch.randn(8, 8)
    with autocast(precision, CPU):
        assert (matrix @ matrix).dtype is kind
