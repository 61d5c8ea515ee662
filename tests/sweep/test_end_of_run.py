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


def test_a_sweep_without_fine_tuning_is_called_recalibrated():
    for compensation, of in (("none", None), ("least_squares", 0.5)):
        changes = {"compensation": compensation, "compensated_test_top1": of}
        head, _ = printed(cells({"random": [0.5]}, finetune_epochs=0, **changes))
        assert head.startswith("digits: test accuracy in %, recalibrated, not fine-tuned, by")
    head, _ = printed(cells({"random": [0.5]}))
    assert head.startswith("digits: test accuracy in % after fine-tuning, by parameter ratio")


def test_each_recipe_has_its_own_unpruned_control():
    rows = [
        row
        for recipe, after in (("finetune", 0.9), ("large", 0.6))
        for row in (
            *cells({"random": [0.5]}, baseline_test_top1=0.92, finetune=recipe),
            unpruned(0, 0.92, after, finetune=recipe),
        )
    ]
    head, _ = printed(rows)
    assert (
        "unpruned 92.00, fine-tuned without pruning 90.00 by recipe finetune and 60.00 by recipe "
        "large;" in head
    )


def test_what_compensation_adds_is_told_before_and_after_fine_tuning():
    def arm(metric, compensation, before, after):
        changes = {"compensation": compensation}
        if compensation != "none":
            changes["compensated_test_top1"] = before
        return cells({metric: [after]}, recalibrated_test_top1=before, **changes)

    rows = [
        *arm("random", "none", 0.25, 0.5),
        *arm("random", "least_squares", 0.5, 0.625),
        *arm("taylor", "none", 0.5, 0.75),
        *arm("taylor", "least_squares", 0.875, 0.75),
    ]
    console = Console(file=io.StringIO(), width=80)
    _accuracies(console, "digits", frame(rows))
    text = console.file.getvalue()
    before, after = text.split("digits: the same after fine-tuning")
    assert "test accuracy in % before fine-tuning, batch normalisation re-estimated" in before

    def shown(part):
        lines = [line.split() for line in part.splitlines() if line.startswith("uniform")]
        return [(metric, compensation, figure) for _, _, metric, compensation, figure, *_ in lines]

    assert shown(before) == [
        ("random", "none", "25.00"),
        ("random", "least_squares", "50.00"),
        ("taylor", "none", "50.00"),
        ("taylor", "least_squares", "87.50"),
    ]
    assert [figure for *_, figure in shown(after)] == ["50.00", "62.50", "75.00", "75.00"]
    # +25 and +37.5 points before, +12.5 and 0 after.
    assert "least_squares changes the accuracy by +31.2 points before fine-tuning" in text
    assert "and +6.2 after it: means over all metrics, at uniform_parameters 0.3" in text


def test_what_compensation_adds_names_the_mean_over_recipes():
    console = Console(file=io.StringIO(), width=80)
    changes = [
        {"compensation": compensation, "finetune": recipe, "compensated_test_top1": of}
        for compensation, of in (("none", None), ("least_squares", 0.5))
        for recipe in ("finetune", "large")
    ]
    rows = [row for change in changes for row in cells({"random": [0.5]}, **change)]
    _accuracies(console, "digits", frame(rows))
    assert "means over all metrics and recipes, at uniform_parameters 0.3" in (
        console.file.getvalue()
    )
