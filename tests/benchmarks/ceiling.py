"""The machine's ceiling (peak rates): large matrix products and copies of memory.

python tests/benchmarks/ceiling.py [--quick]
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from measuring import Load, begin, finish, in_turns, options, section, table

from prune_core.precision import computes_bf16

GIBIBYTE = 1024**3


def product(device: torch.device, kind: torch.dtype, size: int, times: int = 1) -> Load:
    """Products of two square matrices; amounts are FLOP, two for each multiply-accumulate."""
    left = torch.randn(size, size, device=device).to(kind)
    right = torch.randn(size, size, device=device).to(kind)
    out = torch.empty_like(left)

    def run() -> None:
        for _ in range(times):
            torch.mm(left, right, out=out)

    return Load(run, times * 2.0 * size**3)


def products(device: torch.device, quick: bool = False) -> dict[str, Load]:
    """A product for each precision, large enough to fill the device: `fp32` and `bf16`."""
    if quick:
        size, times = 512, 1
    else:
        size, times = (8192, 20) if device.type == "cuda" else (2048, 4)
    emulated = device.type == "cpu" and not computes_bf16(device)
    return {
        "fp32": product(device, torch.float32, size, times),
        "bf16": product(device, torch.bfloat16, size // 2 if emulated else size, times),
    }


def copy(device: torch.device, nbytes: int) -> Load:
    """A copy within memory, larger than caches; amounts are bytes, read and written."""
    source = torch.ones(nbytes // 4, device=device)
    target = torch.empty_like(source)
    return Load(lambda: target.copy_(source), 2.0 * source.nbytes)


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the rates of products and copies."""
    given = begin(options(__doc__), arguments)
    device = torch.device("cpu")
    loads = products(device, given.quick)
    loads["copy"] = copy(device, GIBIBYTE // (256 if given.quick else 1))
    repeats = given.repeats or (2 if given.quick else 7)
    timed = dict(zip(loads, in_turns(*loads.values(), repeats=repeats), strict=True))
    names = {"fp32": "product, fp32", "bf16": f"product, bf16{_emulated(device)}"}
    rows = [[name, timed[kind].rate.times(1e-9).text(0), "GFLOP/s"] for kind, name in names.items()]
    rows.append(
        ["copy, bytes read and written", timed["copy"].rate.times(1e-9).text(1), "GB/s"],
    )
    finish("ceiling", section(table(["", "rate", "unit"], rows)), given.quick)


def _emulated(device: torch.device) -> str:
    return "" if computes_bf16(device) else " (emulated)"


if __name__ == "__main__":
    main()
