"""Training in each form, evaluation and scoring, compared with the ceilings of the device."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import torch
from ceiling import copy
from gpu_bench import NOT_ON_A_CPU, SMALL, Bench, named, turns
from gpu_forms import alone, loss_of
from made_up import inference_flop, network, training_flop
from measuring import Load, in_turns, speed_ratio
from scoring import groups, scoring_rows
from training import ours

from prune_core.evaluation import evaluate
from prune_core.precision import resolve
from prune_core.preprocessing import Preprocessing


def training(bench: Bench) -> None:
    """The ceilings, and the shares of them that training reaches in each form."""
    kinds = {"fp32": bench.ceiling("fp32"), "bf16": bench.ceiling("bf16")}
    kinds["copy"] = copy(bench.device, bench.sizes.copied)

    def rate(kind: str, factor: float, digits: int) -> list[str]:
        (timed,) = in_turns(kinds[kind], repeats=bench.sizes.repeats)
        return [timed.rate.times(factor).text(digits)]

    rows = [
        ("bf16 product, TFLOP/s", partial(rate, "bf16", 1e-12, 1)),
        ("fp32 product, TFLOP/s", partial(rate, "fp32", 1e-12, 1)),
        ("copy, bytes read and written, GB/s", partial(rate, "copy", 1e-9, 0)),
    ]
    bench.report.rows(["ceiling", "measured"], rows)
    precision = resolve("auto", bench.device)
    columns = ["network", f"as trained, in {precision}, images/s", f"of {precision} ceiling, %"]
    columns += ["in a CUDA graph, images/s", "of ceiling, %"]
    columns += ["graph, convolutions chosen by time, images/s", "of ceiling, %"]
    bench.report.rows(columns, named(bench.sizes.networks, partial(_trained, bench)))
    bench.report.say(f"{turns(bench)} one epoch a run, batch {bench.recipe.batch_size}.\n")


def _trained(bench: Bench, variant: str, ratio: float) -> list[str]:
    nets = [network(variant, ratio).to(bench.device) for _ in range(3)]
    forms = [ours(nets[0], bench.train, bench.recipe)]
    if bench.on_gpu:
        forms.append(alone(nets[1], bench.train, bench.recipe).capture().load())
        with _chosen_by_time():
            forms.append(alone(nets[2], bench.train, bench.recipe).capture().load())
    return _shares(bench, forms, training_flop(nets[0]), 3)


def _shares(bench: Bench, forms: Sequence[Load], flop: float, count: int) -> list[str]:
    """Images/s and percent of the ceiling of each form; of `count` forms, if there are so many."""
    ceiling = bench.ceiling(resolve("auto", bench.device))
    *timed, limit = in_turns(*forms, ceiling, repeats=bench.sizes.repeats)
    cells = []
    for one in timed:
        cells += [one.rate.text(0), speed_ratio(one, limit).times(100 * flop).text(1)]
    return [*cells, *[NOT_ON_A_CPU, "-"] * (count - len(forms))]


@contextmanager
def _chosen_by_time() -> Iterator[None]:
    """cuDNN times its algorithms for each new shape, and keeps the fastest."""
    before, torch.backends.cudnn.benchmark = torch.backends.cudnn.benchmark, True
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


def compiled(bench: Bench) -> None:
    """Training steps that torch.compile made, alone and in a CUDA graph."""
    columns = ["network", "compiling, s", "as trained, images/s", "of ceiling, %"]
    columns += ["compiled, images/s", "of ceiling, %"]
    columns += ["compiled, in a CUDA graph, images/s", "of ceiling, %"]
    bench.report.rows(columns, named(bench.sizes.compiled, partial(_compiled, bench)))
    quick = " Here torch.compile traced, but made no code of its own." if bench.sizes.quick else ""
    precision = resolve("auto", bench.device)
    bench.report.say(f"{turns(bench)} training in {precision}; compiled for its shapes.{quick}\n")


def _compiled(bench: Bench, variant: str, ratio: float) -> list[str]:
    torch._dynamo.reset()
    net, other = (network(variant, ratio).to(bench.device) for _ in range(2))
    backend = "aot_eager" if bench.sizes.quick else "inductor"
    began = time.perf_counter()
    loss = torch.compile(loss_of(net.train()), backend=backend, dynamic=False)
    steps = alone(net, bench.train, bench.recipe, loss)
    steps.step()
    if bench.on_gpu:
        torch.cuda.synchronize()
    seconds = time.perf_counter() - began
    forms = [ours(other, bench.train, bench.recipe), steps.load()]
    if bench.on_gpu:
        forms.append(alone(net, bench.train, bench.recipe, loss).capture().load())
    return [f"{seconds:.0f}", *_shares(bench, forms, training_flop(net), 3)]


def scoring(bench: Bench) -> None:
    """Evaluation compared with the ceiling, and scoring compared with inference."""
    columns = ["network", "evaluation in fp32, images/s", "of fp32 ceiling, %"]
    bench.report.rows(columns, named(bench.sizes.networks, partial(_evaluated, bench)))
    net = network(SMALL, 0.1 if bench.sizes.quick else 1.0).to(bench.device).eval()
    columns = ["metrics", "images", "scoring, s", "inference, s", "ratio", "ratio to 128 at once"]
    count = min(bench.sizes.scored, len(bench.train))
    found = groups(count)
    rows = [
        (
            group.name,
            lambda group=group: scoring_rows(
                net, bench.train, [group], min(2, bench.sizes.repeats)
            )[0][1:],
        )
        for group in (found[:3] if bench.sizes.quick else found)
    ]
    bench.report.rows(columns, rows)
    bench.report.say(f"{turns(bench)} scoring of `{SMALL}`, in 2 turns at most.\n")


def _evaluated(bench: Bench, variant: str, ratio: float) -> list[str]:
    net = network(variant, ratio).to(bench.device)
    scaling = Preprocessing.of(bench.split.train.first(512))
    asking = Load(lambda: evaluate(net, bench.train, scaling), len(bench.train))
    timed, limit = in_turns(asking, bench.ceiling("fp32"), repeats=bench.sizes.repeats)
    share = speed_ratio(timed, limit).times(100 * inference_flop(net))
    return [timed.rate.text(0), share.text(1)]
