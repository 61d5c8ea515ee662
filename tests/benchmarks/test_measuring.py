"""Medians, ratios within turns, tables, and the sections of the document."""

from pathlib import Path

import pytest
from measuring import (
    DOCUMENT,
    DocumentError,
    Load,
    Run,
    Spread,
    Timed,
    finish,
    in_turns,
    marks,
    publish,
    speed_ratio,
    table,
)

BEGIN, END = marks("training")


def timed(amount: float, *seconds: float) -> Timed:
    """Runs whose processor time is a tenth of the wall time."""
    return Timed(amount, tuple(Run(wall, wall / 10) for wall in seconds))


def test_a_spread_is_the_median_and_both_ends() -> None:
    assert Spread.of([5.0, 1.0, 2.0]) == Spread(2.0, 1.0, 5.0)
    assert Spread.of([4.0, 1.0, 2.0, 3.0]) == Spread(2.5, 1.0, 4.0)
    assert Spread(2.0, 1.0, 5.0).times(100) == Spread(200.0, 100.0, 500.0)
    assert Spread(1234.5, 0.05, 9999.96).text(1) == "1,234.5 (0.1 to 10,000.0)"


def test_loads_run_in_turns_after_warming_up() -> None:
    order: list[str] = []
    loads = [Load(lambda name=name: order.append(name), 3.0) for name in "AB"]
    first, second = in_turns(*loads, repeats=2)
    assert order == ["A", "B", "A", "B", "A", "B"]
    assert len(first.runs) == len(second.runs) == 2
    assert first.amount == 3.0
    order.clear()
    in_turns(*loads, repeats=1, warm_up=False)
    assert order == ["A", "B"]


def test_a_run_is_timed_from_its_beginning_to_its_end() -> None:
    inside: list[float] = []

    def busy() -> None:
        import time

        began = time.perf_counter()
        while time.perf_counter() - began < 0.002:
            pass
        inside.append(time.perf_counter() - began)

    (found,) = in_turns(Load(busy), repeats=3, warm_up=False)
    assert all(run.wall >= spent for run, spent in zip(found.runs, inside, strict=True))


def test_rates_are_amounts_by_seconds() -> None:
    found = timed(100.0, 2.0, 4.0, 5.0)
    assert found.rates() == [50.0, 25.0, 20.0]
    assert found.rates("processor") == [500.0, 250.0, 200.0]
    assert found.rate == Spread(25.0, 20.0, 50.0)
    assert found.seconds == Spread(4.0, 2.0, 5.0)


def test_a_ratio_is_taken_within_each_turn() -> None:
    """The second turn was slow for both; a ratio of medians or of minima would ignore that."""
    one, other = timed(10.0, 1.0, 10.0, 1.0), timed(10.0, 2.0, 30.0, 1.5)
    assert speed_ratio(one, other) == Spread(2.0, 1.5, 3.0)
    assert speed_ratio(timed(20.0, 1.0), timed(10.0, 1.0)) == Spread(2.0, 2.0, 2.0)


def test_tables_are_aligned_markdown() -> None:
    assert table(["network", "s"], [["a", "1.25"], ["longer name", "10"]]).splitlines() == [
        "| network     |    s |",
        "| ----------- | ---: |",
        "| a           | 1.25 |",
        "| longer name |   10 |",
    ]


def test_a_section_replaces_the_text_between_its_marks(tmp_path: Path) -> None:
    document = tmp_path / "benchmarks.md"
    document.write_text(f"# Title\n\n{BEGIN}\nold\n{END}\n\nrest\n")
    for text in ("first", "second\n"):
        publish("training", text, document)
    assert document.read_text() == f"# Title\n\n{BEGIN}\n\nsecond\n\n{END}\n\nrest\n"


@pytest.mark.parametrize(
    "content",
    [
        "no marks",
        BEGIN,
        END,
        f"{END}\n{BEGIN}",
        f"{BEGIN}\n{END}\n{BEGIN}\n{END}",
        f"{END}\n{BEGIN}\n{END}",
        f"{BEGIN}\n{BEGIN}\n{END}",
    ],
)
def test_a_document_without_the_marks_is_left_as_it_is(tmp_path: Path, content: str) -> None:
    document = tmp_path / "benchmarks.md"
    document.write_text(content)
    with pytest.raises(DocumentError, match="measured: training"):
        publish("training", "text", document)
    assert document.read_text() == content


def test_a_quick_run_writes_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    written: list[str] = []
    monkeypatch.setattr("measuring.publish", lambda name, text: written.append(name))
    finish("training", "a table", quick=True)
    assert (written, capsys.readouterr().out) == ([], "a table\n")
    finish("training", "a table", quick=False)
    assert written == ["training"]


@pytest.mark.parametrize(
    "name",
    [
        "ceiling",
        "training",
        "pruned",
        "scoring",
        "torch_pruning_rival",
        "sweep_rival",
        "scale",
        "accuracy",
        "recalibration",
    ],
)
def test_the_document_has_a_section_for_every_benchmark(name: str) -> None:
    content = DOCUMENT.read_text()
    assert (Path(__file__).parent / f"{name}.py").is_file()
    assert [content.count(mark) for mark in marks(name)] == [1, 1]
