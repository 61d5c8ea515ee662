"""What a person sees at the end of a sweep."""

import io
from collections.abc import Callable

import pytest
from rich.console import Console

from results import Store
from results.storage.failure_logs import with_log
from sweep.api import Sweep, plan
from sweep.commands.summary import conclude
from sweep.stages.rows import Row, identity_row

RATIOS = [0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7]


@pytest.fixture
def planned(spec, store: Store) -> Sweep:
    """Two metrics, both scopes, nine ratios."""
    changes = {"ratios": RATIOS, "metrics": ["random", "weighted_mutual_information"]}
    return plan(spec(changes), out=store.folder)


@pytest.fixture
def concluded(planned: Sweep, store: Store) -> Callable[[Callable[[int], Row]], tuple[bool, str]]:
    """Concludes with a row for each cell, `figures` giving what it is but its identity."""

    def conclusion(figures: Callable[[int], Row]) -> tuple[bool, str]:
        for at, cell in enumerate(planned.cells):
            if row := figures(at):
                store.write(identity_row(cell, "small") | row)
        on = Console(file=io.StringIO(), width=80)
        complete = conclude(on, planned)
        assert isinstance(on.file, io.StringIO)
        return complete, on.file.getvalue()

    return conclusion


def ok(at: int) -> Row:
    accuracy = {"finetuned_test_top1": 0.5 + at / 1000, "baseline_test_top1": 0.98765}
    return {"status": "ok", "collapsed": at == 1, **accuracy}


def test_every_figure_is_shown_whole_however_narrow_the_console(concluded, store):
    complete, text = concluded(ok)
    assert complete
    assert "unpruned 98.77" in text
    assert "…" not in text
    rows = {tuple(line.split()[:3]): line.split()[3:] for line in text.splitlines()}
    assert rows["budget", "normalisation", "metric"] == [f"{ratio:g}" for ratio in RATIOS]
    first = ["50.00", "50.10*", *(f"{50 + at / 10:.2f}" for at in range(2, 9))]
    assert rows["uniform_parameters", "none", "random"] == first
    last = [f"{50 + at / 10:.2f}" for at in range(27, 36)]
    assert rows["global", "none", "weighted_mutual_information"] == last
    assert text.endswith(f"\n36 of 36 cells ok; pandas: results.load({str(store.folder)!r})\n")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "by parameter ratio, mean"),
        ({"local_budgets": ["uniform_channels"], "scopes": ["local"]}, "by channel ratio, mean"),
        (
            {"local_budgets": ["uniform_channels"]},
            "by parameter ratio, or channel ratio where the budget says so, mean",
        ),
    ],
    ids=str,
)
def test_ratios_of_channels_and_of_parameters_are_named_apart(changes, words, spec, store):
    changes = {"ratios": [0.3], "metrics": ["random"], **changes}
    planned = plan(spec(changes), out=store.folder)
    for at, cell in enumerate(planned.cells):
        store.write(identity_row(cell, "small") | ok(at))
    on = Console(file=io.StringIO(), width=80)
    conclude(on, planned)
    text = on.file.getvalue()
    assert words in text
    assert ("uniform_channels (channels)" in text) == ("local_budgets" in changes)


def test_cells_that_failed_are_told_with_an_example(concluded):
    failed = {"status": "failed", "error": "ValueError: [red]"}
    complete, text = concluded(lambda at: failed if at in (3, 4) else ok(at))
    assert not complete
    assert "2 cells failed:\n  such as random local 0.45: ValueError: [red]\n" in text
    assert "34 of 36 cells ok; pandas" in text


def test_every_distinct_error_is_told_once_with_its_count(concluded):
    def figures(at: int) -> Row:
        if at >= 10:
            return ok(at)
        error = ["KeyError: 'a'", "ValueError: b", "ValueError: b", "OSError: c", "TypeError: d"][
            at % 5
        ]
        # Each cell has a log of its own, which makes no other error of it.
        return {"status": "failed", "error": with_log(error, f"cell-{at}")}

    _, text = concluded(figures)
    lines = text[text.index("10 cells failed:") :].splitlines()[1:-1]
    told = [line.split(": ", 1)[1].partition(";")[0] for line in lines]
    assert told[0] == "ValueError: b"
    assert sorted(told[1:]) == ["KeyError: 'a'", "OSError: c", "TypeError: d"]
    assert [line.split(" x ")[0].strip() for line in lines] == ["4", "2", "2", "2"]
    assert "; log: logs/cell-" in lines[0]


def test_very_many_errors_are_counted(concluded):
    _, text = concluded(lambda at: {"status": "failed", "error": f"ValueError: {at:02}"})
    assert text.count("ValueError") == 10
    assert "and 26 other errors" in text


class Screen(io.StringIO):
    """A terminal of 80 columns."""

    def isatty(self) -> bool:
        return True


def test_a_table_fits_the_terminal(planned, store):
    for at, cell in enumerate(planned.cells):
        store.write(identity_row(cell, "small") | ok(at))
    on = Console(file=Screen(), width=80, color_system=None)
    conclude(on, planned)
    lines = on.file.getvalue().splitlines()
    tables = [line for line in lines if line.startswith(("budget", "uniform", "global"))]
    assert max(map(len, tables)) <= 80
    titles = [line.split()[3:] for line in tables if line.startswith("budget")]
    assert len(titles) > 1
    assert [ratio for part in titles for ratio in part] == [f"{ratio:g}" for ratio in RATIOS]
    shown = [
        f
        for line in tables
        if line.split()[:3] == ["global", "none", "random"]
        for f in line.split()[3:]
    ]
    assert shown == [f"{50 + at / 10:.2f}" for at in range(9, 18)]


def test_cells_that_are_absent_are_told(concluded):
    complete, text = concluded(lambda at: ok(at) if at else {})
    assert not complete
    assert "35 of 36 cells ok, 1 not run; pandas" in text


def test_no_cells_at_all_are_told(concluded):
    complete, text = concluded(lambda at: {})
    assert not complete
    assert "0 of 36 cells ok, 36 not run" in text
