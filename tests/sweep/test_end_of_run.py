"""The table at the end of a run shows what is left of the multiply-accumulates."""

import io

from known_cells import cells, frame, unpruned
from rich.console import Console

from sweep.commands.summary import _accuracies


def printed(rows):
    console = Console(file=io.StringIO(), width=80)
    _accuracies(console, "digits", frame(rows))
    lines = console.file.getvalue().splitlines()
    return lines[0], {tuple(line.split()[:3]): line.split()[3:] for line in lines[1:]}


def test_macs_stand_beside_each_accuracy():
    rows = cells({"random": [0.5, 0.6]}, macs=200) + cells({"taylor": [0.7, 0.7]}, macs=9_400)
    rows += cells({"taylor": [0.8, 0.8]}, macs=9_800, ratio=0.6)
    head, lines = printed(rows)
    assert "MACs: the fraction of multiply-accumulates left" in head
    assert lines["budget", "normalisation", "metric"] == ["0.3", "MACs", "0.6", "MACs"]
    assert lines["uniform_parameters", "none", "random"] == ["55.00", "0.02", "-", "-"]
    assert lines["uniform_parameters", "none", "taylor"] == ["70.00", "0.94", "80.00", "0.98"]


def test_the_unpruned_control_is_told_and_is_no_ratio():
    rows = cells({"random": [0.5, 0.6]}, baseline_test_top1=0.818)
    head, lines = printed([*rows, unpruned(0, 0.818, 0.77), unpruned(1, 0.818, 0.772)])
    assert "unpruned 81.80, fine-tuned without pruning 77.10;" in head
    assert lines["budget", "normalisation", "metric"] == ["0.3", "MACs"]
    head, lines = printed([unpruned(0, 0.818, 0.77)])
    assert head == ("digits: test accuracy in %: unpruned 81.80, fine-tuned without pruning 77.00")
    assert not lines
