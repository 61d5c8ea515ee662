"""The first lines of a report: who is ahead, by how much, and whether this is sure."""

import made_up_sweep
import pytest
from known_cells import cells, frame
from made_up_sweep import Grid

import results
from results.analysis.sweep_tables import read_tables
from results.report.content import content
from results.report.first_lines import first_lines
from results.report.steps import steps
from results.report.writing import _render

AHEAD = {"taylor": [0.7, 0.71, 0.72], "output_l1": [0.5, 0.52, 0.51], "random": [0.4, 0.41, 0.4]}
PLACE = "digits (local, uniform_parameters)"


def behind():
    """Held-out images choose taylor, and test images find it 11 points below random."""
    rows = cells({"taylor": [0.4, 0.41, 0.43], "random": [0.5, 0.53, 0.54]})
    held_out = {"taylor": 0.9, "random": 0.8}
    return [row | {"finetuned_validation_top1": held_out[row["metric"]]} for row in rows]


@pytest.mark.parametrize(
    ("rows", "words", "reason", "sure"),
    [
        (
            cells(AHEAD),
            "taylor is ahead of output_l1 by 20.00 points",
            "interval (95 %) from 17.52 above to 22.48 above, 3 seeds",
            "sure",
        ),
        (
            cells({"a": [0.5, 0.5, 0.5], "b": [0.5, 0.5, 0.5]}),
            "a and b are level",
            "the same in all 3 seeds, so there is no interval",
            "not sure",
        ),
        (
            cells({"a": [0.5, 0.6, 0.5], "b": [0.52, 0.5, 0.52]}),
            "a is chosen, but is 4.67 points below b",
            "interval (95 %) from 16.14 below to 6.81 above, 3 seeds; 2 of 3 choices are a",
            "not sure",
        ),
        (
            behind(),
            "taylor is chosen, but is 11.00 points below random",
            "interval (95 %) from 13.48 below to 8.52 below, 3 seeds",
            "surely behind",
        ),
        (
            cells({"a": [0.9], "b": [0.5]}),
            "a has the highest held-out accuracy, b the second",
            "one seed cannot both choose and judge, so the lead is not known",
            "one seed",
        ),
    ],
    ids=["winner", "tie", "depends on the seed", "behind", "one seed"],
)
def test_a_line_says_who_is_ahead_and_how_sure_this_is(rows, words, reason, sure):
    told = first_lines(frame(rows))
    ((place, line, verdict),) = told.table.rows
    assert (place.text, line.text, line.detail, verdict.text) == (PLACE, words, reason, sure)
    assert verdict.strong == (sure == "sure")
    assert told.headline == ""


def test_many_settings_are_counted_and_the_rest_is_folded():
    rows = [row for at in range(13) for row in cells(AHEAD, dataset=f"d{at:02}")]
    rows += cells({"a": [0.9], "b": [0.5]}, dataset="d99")
    told = first_lines(frame(rows))
    assert told.headline == "Best of 13 settings of several seeds: taylor in 13. Sure leads: 13."
    single = first_lines(frame(cells({"a": [0.9], "b": [0.5]}) + rows[-2:]))
    assert single.headline == "With one seed, it is not known who is ahead."
    assert [len(table.rows) for table in (told.table, told.more)] == [12, 2]
    beside = told.table.rows[0][1].below
    assert beside == "surely ahead of 2 of the 2 others"
    alone = first_lines(frame(cells({"a": [0.5]})))
    assert alone.table is None
    assert "nothing to compare" in alone.headline


@pytest.mark.slow
def test_page_and_markdown_begin_with_these_lines(tmp_path):
    """Cells that failed take their metric out of the comparison, and are counted."""
    rows = []
    for row in made_up_sweep.rows(Grid(("cifar10",), ("random", "output_l1", "taylor"), (0.5,))):
        accuracy = AHEAD[row["metric"]][row["seed"]]
        rows.append(row | {f"finetuned_{of}_top1": accuracy for of in ("test", "validation")})
    rows[2] |= {"status": "failed", "error": "out of memory"}
    assert rows[2]["metric"] == "taylor"
    sweep = read_tables([str(made_up_sweep.write(tmp_path / "runs", rows))])
    made = content(sweep)
    markdown = _render("report.md.j2", made, figures=[])
    names = {"metrics": [], "cells": "{}", "style": "", "script": "", "script_hash": ""}
    page = _render("report.html.j2", made, figures=[], **names)
    for text in (page, markdown):
        at = [
            text.index(words)
            for words in (
                "output_l1 is ahead of random by 10.67 points",
                "interval (95 %) from",
                "1 of 9 cells failed (1 failed)",
                "Planned comparisons",
            )
        ]
        assert at == sorted(at)
        assert "highest validation accuracy" not in text
    # No cell tests a claim of the abstracts on a person's own images.
    own = made_up_sweep.write(
        tmp_path / "own", [row | {"dataset": "birds", "source": "folder:birds"} for row in rows]
    )
    assert "Claims of the study" in page
    told = content(read_tables([str(own)]))
    for template in ("report.html.j2", "report.md.j2"):
        assert "laims" not in _render(template, told, figures=[], **names)


@pytest.mark.slow
def test_steps_of_iterative_cells_have_a_table(tmp_path):
    rows = list(made_up_sweep.rows(Grid(("svhn",), ("random", "output_l1"), (0.3,), (0, 1))))
    iterative = {"schedule": "iterative(steps=2)", "schedule_options": '{"steps": 2}'}
    for row in rows:
        row |= iterative | {"steps": [step(row, 1, 0.6, 0.9), step(row, 2, 0.3, 0.8)]}
    folder = made_up_sweep.write(tmp_path / "runs", rows)
    made = content(read_tables([str(folder)]))
    (table,) = made.steps.content
    assert table.title == "svhn, simplenet_310k, local, iterative(steps=2)"
    assert table.columns == ("metric", "ratio of parameters", "step 1", "step 2")
    ((metric, ratio, first, last), (other, *_)) = table.rows
    assert (metric.text, ratio.text, other.text) == ("output_l1", "0.3", "random")
    # Seeds 0 and 1 reach 0.9 and 0.91.
    assert (first.text, first.detail) == ("90.50", "pruned 45.25")
    assert first.below == "parameters 0.60, MACs 0.60"
    assert (last.text, last.below) == ("80.50", "parameters 0.30, MACs 0.30")
    markdown = _render("report.md.j2", made, figures=[])
    assert "## Steps" in markdown
    assert "| 90.50, pruned 45.25, parameters 0.60, MACs 0.60 |" in markdown
    plain = made_up_sweep.write(tmp_path / "plain", list(made_up_sweep.rows())[:3])
    assert steps(read_tables([str(plain)])) == []


def step(row, number, ratio, accuracy):
    """One step of a cell, which keeps exactly its ratio of parameters and MACs."""
    reached = accuracy + 0.01 * row["seed"]
    told = {"step": number, "ratio": ratio, "seconds": 1.0}
    told |= {name: round(ratio * row[f"{name}_full"]) for name in ("parameters", "macs")}
    for split in ("validation", "test"):
        told |= {f"pruned_{split}_top1": reached / 2, f"finetuned_{split}_top1": reached}
    return told


def test_metrics_that_cannot_compete_are_counted():
    rows = [*cells(AHEAD, ratio=0.3), *cells({"taylor": [0.7, 0.71, 0.72]}, ratio=0.5)]
    rows += cells({"output_l1": [0.5, 0.52, 0.51]}, ratio=0.5)
    line = str(first_lines(frame(rows)))
    assert "1 takes no part" in line
    assert "(1 metric lacks a ratio or a seed)" in results.conclusion(frame(rows))[0]


def test_no_lead_is_sure_while_a_metric_that_lacks_cells_is_better():
    rows = [*cells(AHEAD, ratio=0.3), *cells(AHEAD, ratio=0.5)]
    (sure,) = first_lines(frame(rows)).table.rows
    assert sure[2].text == "sure"
    best = max(AHEAD, key=lambda name: sum(AHEAD[name]))
    lost = next(row for row in rows if (row["metric"], row["seed"]) == (best, 2))
    rows[rows.index(lost)] = lost | {"status": "failed", "finetuned_test_top1": None}
    (line,) = first_lines(frame(rows)).table.rows
    assert line[2].text == "not sure"
    assert "it is more accurate in the cells that both have" in line[1].below
    assert "of which 1 more accurate" in results.conclusion(frame(rows))[0]
