"""The report says what the tables say, of any folder, and lets nothing of the data run."""

import base64
import hashlib
import json
import random
import re
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import known_cells
import made_up_sweep
import pandas as pd
import pytest
from made_up_sweep import Grid

import results
from results import report
from results.analysis.sweep_tables import read_tables
from results.figures.registry import REPORT_FIGURES
from results.report import facts, gains, tables, verdicts
from results.report.cell_table import packed
from results.report.content import content
from results.report.counting import comparisons_of_metrics
from results.report.writing import _render
from results.storage.locations import folder_of
from results.storage.plan_file import Comparison, PlannedCells, write_plan

SMALL = Grid(
    datasets=("cifar10", "svhn"),
    metrics=("random", "output_l1", "weighted_mutual_information"),
    ratios=(0.3, 0.6),
    scopes=(("local", "none"), ("global", "none")),
)
ATTACK = "<script>alert(1)</script>"
SECTIONS = ["conclusion", "planned", "figures", "run", "accuracy", "differences", "ranks"]
SECTIONS += ["cells", "provenance"]


class Page(HTMLParser):
    """What a browser would find in the page: ids, references, the text of its parts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: Counter[str] = Counter()
        self.references: list[str] = []
        self.scripts: list[str] = []
        self.policy = ""
        self._inside: list[str] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self._inside.append(tag)
        self.ids.update([found["id"]] if "id" in found else [])
        self.references += [
            value
            for name, value in found.items()
            if name in ("href", "src", "xlink:href", "srcset", "action", "data", "poster")
        ]
        if tag == "meta" and found.get("http-equiv") == "Content-Security-Policy":
            self.policy = found["content"]
        if tag == "script" and found.get("type") != "application/json":
            self.scripts.append("")

    def handle_endtag(self, tag):
        while self._inside and self._inside.pop() != tag:
            pass

    def handle_data(self, data):
        if self._inside and self._inside[-1] == "script":
            if self.scripts:
                self.scripts[-1] += data
        elif not self._inside or self._inside[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def cells_of(text: str) -> dict:
    """The data of the table of cells."""
    return json.loads(re.search(r'id="data">(.*?)</script>', text, re.DOTALL)[1])


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    rows = list(made_up_sweep.rows(SMALL))
    rows[5] |= {"status": "failed", "error": f"ValueError: {ATTACK}\n  line two", "macs": None}
    rows[6] |= {"status": "timeout", "error": "x" * 10_000, "finetuned_test_top1": None}
    return made_up_sweep.write(tmp_path_factory.mktemp("small") / "runs", rows, scores=True)


@pytest.fixture(scope="module")
def text(folder, tmp_path_factory) -> str:
    path = report.write([folder], to=tmp_path_factory.mktemp("page") / "new" / "page.html")
    return path.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(text) -> Page:
    return Page(text)


def test_it_has_all_parts_and_every_link_leads_somewhere(page):
    assert set(SECTIONS) | {"failures", "claims"} <= set(page.ids)
    assert page.ids.most_common(1)[0][1] == 1
    for reference in page.references:
        assert reference.startswith("#") or reference.startswith("data:image/png;base64,")
        assert not reference.startswith("#") or reference[1:] in page.ids


def test_it_asks_nothing_of_the_network_and_runs_one_script_alone(text, page):
    assert "default-src 'none'" in page.policy
    (script,) = page.scripts
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in page.policy
    assert "@import" not in text
    assert not re.findall(r"url\((?!#|&quot;#)", text)


def test_every_figure_has_colours_that_follow_the_page(text):
    drawings = re.findall(r"<svg.*?</svg>", text, re.DOTALL)
    assert len(drawings) == 6
    for drawing in drawings:
        assert 'role="img"' in drawing
        assert "var(--ink)" in drawing
        for colour in ("#1f2328", "#ffffff"):
            assert colour not in drawing


def test_conclusion_and_accuracies_are_those_of_the_tables(folder, page):
    frame = results.load(folder)
    # The first of these sentences is a line for each setting here.
    for sentence in results.conclusion(frame)[1:]:
        assert " ".join(sentence.split()) in page.text
    for _, row in results.accuracy_table(frame).iterrows():
        half = f"± {50 * (row['high'] - row['low']):.2f}"
        assert re.search(rf"{100 * row['mean']:.2f}\*? {half}", page.text)
    for _, row in results.paired_difference(frame, None, "output_l1").iterrows():
        assert f"{row['difference_points']:+.2f}".replace("-", "\N{MINUS SIGN}") in page.text


def test_claims_have_their_verdict(folder, page):
    table = results.claims(results.load(folder))
    run = table[(table["verdict"] != "not run")]
    assert len(run)
    for verdict, count in run["verdict"].value_counts().items():
        assert page.text.count(verdict) >= count
    for _, row in run.dropna(subset="detectable_points").iterrows():
        assert (
            f"{row['detectable_points']:.1f} test images {row['test_error_points']:.2f} "
            in page.text
        )
    on_these = table["claimed_dataset"].isin(results.load(folder)["dataset"])
    absent = table.loc[(table["verdict"] == "not run") & on_these, "claim"].unique()
    were = "was" if len(absent) == 1 else "were"
    assert f"{len(absent)} of the claims {were} not put to the test" in page.text
    for claim in absent:
        assert claim in page.text


def test_the_table_of_cells_holds_the_frame(folder, text):
    frame, cells = results.load(folder), cells_of(text)
    columns = {column["name"]: column for column in cells["columns"]}
    assert cells["rows"] == len(frame)
    values = columns["finetuned_test_top1"]["values"]
    for value, expected in zip(values, frame["finetuned_test_top1"], strict=True):
        assert value is None if expected != expected else abs(value - 100 * expected) <= 0.00501
    for name in ("status", "dataset", "metric", "key"):
        words, places = columns[name]["words"], columns[name]["values"]
        assert [words[place] for place in places] == frame[name].tolist()
    assert columns["macs"]["label"] == "MACs, millions"
    assert columns["seed"]["values"] == frame["seed"].tolist()


def test_failures_are_shown_escaped_and_shortened(text, page):
    assert f"ValueError: {ATTACK} line two" in page.text
    assert ATTACK not in text
    assert "[6,000 characters left out]" in page.text
    assert "1 failed" in page.text
    assert "1 timeout" in page.text


TRACEBACK = f"""Traceback (most recent call last):
  File "sweep/stages/cell.py", line 65, in cell
    {ATTACK} | `not` *Markdown*
ValueError: no"""


@pytest.fixture(scope="module")
def failing(tmp_path_factory) -> Path:
    """Three cells that failed for one reason, of which the second has a traceback, and another."""
    rows = list(made_up_sweep.rows(Grid(("svhn",), ("random", "output_l1"), (0.5,))))
    for number in (0, 1, 2):
        error = f"ValueError: no (cell.py:65); log: logs/cell-{rows[number]['key']}.txt"
        rows[number] |= {"status": "failed", "error": error}
    rows[1]["traceback"] = TRACEBACK
    rows[3] |= {"status": "timeout", "error": "the task took more than 60 s (timeout_s)"}
    return made_up_sweep.write(tmp_path_factory.mktemp("failing") / "runs", rows)


def test_cells_with_logs_of_their_own_are_counted_by_their_cause(failing):
    (first, other), more = facts.failures(results.load(failing))
    assert more == 0
    assert (first.error, first.count) == ("ValueError: no (cell.py:65)", 3)
    assert first.traceback == TRACEBACK
    assert first.log == f"logs/cell-{1:016x}.txt"
    assert (other.status, other.count, other.traceback, other.log) == ("timeout", 1, "", "")


def test_a_failure_has_its_traceback_in_a_part_that_opens(failing):
    text = report.write([failing]).read_text(encoding="utf-8")
    section = text[text.index('<section id="failures"') :]
    section = section[: section.index("</section>")]
    (opened,) = re.findall(r"<details>(.*?)</details>", section, re.DOTALL)
    assert " ".join(TRACEBACK.split()) in Page(opened).text
    assert f"logs/cell-{1:016x}.txt" in opened
    assert ATTACK not in text


def test_a_failure_has_its_traceback_as_code_in_markdown(failing):
    text = report.write([failing], "md").read_text(encoding="utf-8")
    code = "\n".join(f"    {line}" for line in TRACEBACK.splitlines())
    assert f"\n\n{code}\n\n" in text
    assert text.count("Traceback (most recent call last)") == 1
    assert f"logs/cell-{1:016x}.txt" in text


def test_it_says_where_the_numbers_come_from(page):
    for word in ("2.8.0", "0123456789abcdef0123", "a made-up processor", "node-1", "2026-01-01"):
        assert word in page.text


def test_hostile_names_stay_names(tmp_path):
    names = [f"m{ATTACK}", 'q"uote', "$a_b$ & {x}", "new\nline | pipe"]
    rows = []
    for number, row in enumerate(made_up_sweep.rows(SMALL)):
        metric = {"random": names[number % 4]}.get(row["metric"], row["metric"])
        changes = {"metric": metric, "dataset": f"d</script>{ATTACK}", "host": ATTACK}
        rows.append(row | changes | {"sweep": ATTACK, "identity": f'{{"a": "{ATTACK}"}}'})
    rows = list(
        {(row["metric"], row["scope"], row["seed"], row["ratio"]): row for row in rows}.values()
    )
    folder = made_up_sweep.write(tmp_path / "runs", rows)
    text = report.write([folder]).read_text(encoding="utf-8")
    assert ATTACK not in text
    page = Page(text)
    assert len(page.scripts) == 1
    assert page.ids.most_common(1)[0][1] == 1
    columns = {column["name"]: column for column in cells_of(text)["columns"]}
    assert f"m{ATTACK}" in columns["metric"]["words"]
    markdown = report.write([folder], "md").read_text(encoding="utf-8")
    assert "<script" not in markdown.replace("\\<script", "")
    assert_tables_are_whole(markdown)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([{"key": "f" * 16, "status": "failed", "error": "why"}], "No cell is ok"),
        ([next(made_up_sweep.rows())], "A full comparison would also have"),
        (
            [
                row | {"metric": row["metric"].replace("fpgm", "my_own(bins=3)")}
                for row in made_up_sweep.rows(Grid(("x",), ("fpgm", "random"), (0.5,), (7,)))
            ],
            "metrics (2) my_own(bins=3), random",
        ),
    ],
    ids=["all failed", "one cell", "unknown metric, one seed"],
)
def test_any_folder_has_a_report(rows, said, tmp_path):
    folder = made_up_sweep.write(tmp_path / "runs", rows)
    page = Page(report.write([str(folder)]).read_text(encoding="utf-8"))
    assert said in page.text
    assert set(SECTIONS) <= set(page.ids)


def test_an_empty_folder_has_a_report(tmp_path):
    folder = made_up_sweep.write(tmp_path / "runs", [])
    text = report.write([folder]).read_text(encoding="utf-8")
    assert f"There is no cell in {folder}" in Page(text).text
    assert set(SECTIONS) <= set(Page(text).ids)
    assert_tables_are_whole(report.write([folder], "md").read_text(encoding="utf-8"))


def test_rows_of_the_first_schema_have_a_report(tmp_path):
    rows = [
        {name: value for name, value in row.items() if "latency" not in name}
        for row in made_up_sweep.rows(Grid(("svhn",), ("random", "fpgm"), (0.5,)))
    ]
    for row in rows:
        del row["baseline_history"]
    text = report.write([made_up_sweep.write(tmp_path / "runs", rows)]).read_text("utf-8")
    assert not [c for c in cells_of(text)["columns"] if c["name"].startswith("latency")]
    assert "measured latencies" in Page(text).text


def test_cells_that_are_not_comparable_are_said_to_be(tmp_path):
    rows = [
        row | {"identity": json.dumps({"finetune": {"learning_rate": row["seed"]}})}
        for row in made_up_sweep.rows(Grid(("svhn",), ("output_l1", "fpgm"), (0.5,)))
    ]
    folder = made_up_sweep.write(tmp_path / "runs", rows)
    page = Page(report.write([folder]).read_text(encoding="utf-8"))
    made = content(read_tables([str(folder)]))
    markdown = _render("report.md.j2", made, figures=[])
    line = 'frame = frame[results.identities(frame)["finetune.learning_rate"] == 0]'
    for text in (page.text, markdown.replace("\\", "").replace("*", "")):
        # The reason stands once, at the top, whichever cells the parts would name.
        assert text.count("finetune.learning_rate is 0 and 1") == 1
        assert text.index("finetune.learning_rate is 0 and 1") < text.index("Conclusion")
        assert line in text
        assert "This part cannot be computed" not in text
        assert text.count("Left out, for the reason at the top.") >= 6
        assert "Steps" not in text
        assert "No figure can be drawn, for the reason at the top." in text
        assert "learning rate 0; learning rate 1; learning rate 2" in text
    names = {"results": results}
    exec(made.selecting, names)
    assert len(results.accuracy_table(names["frame"])) == 2


def test_several_folders_are_one_report_in_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    grids = [Grid((name,), ("output_l1", "fpgm"), (0.5,)) for name in ("svhn", "cifar10")]
    rows = [
        [row | {"key": f"{at}{row['key'][1:]}"} for row in made_up_sweep.rows(grid)]
        for at, grid in enumerate(grids)
    ]
    folders = [made_up_sweep.write(tmp_path / f"{at}", found) for at, found in enumerate(rows)]
    assert report.write(folders) == Path("report.html")
    again = report.write(folders, to="again.html")
    assert again.read_bytes() == Path("report.html").read_bytes()
    columns = {c["name"]: c for c in cells_of(Path("report.html").read_text("utf-8"))["columns"]}
    assert columns["dataset"]["words"] == ["cifar10", "svhn"]


def test_planned_cells_without_a_row_are_counted(tmp_path):
    rows = list(made_up_sweep.rows(Grid(("svhn",), ("fpgm",), (0.5,))))
    folder = made_up_sweep.write(tmp_path / "runs", rows)
    planned = [row["key"] for row in rows] + ["e" * 16, "d" * 16]
    plan = {"name": "x", "cells": dict.fromkeys(planned, "label")}
    (folder / "plan.json").write_text(json.dumps(plan))
    assert ("not run", 2) in content(read_tables([str(folder)])).statuses
    (folder / "plan.json").write_text("[")
    assert content(read_tables([str(folder)])).statuses == [("ok", 3)]


def test_an_object_stores_report_lies_here(object_store, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    where = object_store.new_prefix()
    store = results.Store(where)
    store.create()
    for row in made_up_sweep.rows(Grid(("svhn",), ("fpgm",), (0.5,))):
        store.write(row)
    assert report.write([where]) == Path("report.html")
    assert cells_of(Path("report.html").read_text("utf-8"))["rows"] == 3


def assert_tables_are_whole(markdown: str) -> None:
    """Every line of a table has as many cells as its head."""
    columns = 0
    for line in markdown.splitlines():
        if not line.startswith("|"):
            columns = 0
            continue
        count = len(re.findall(r"(?<!\\)\|", line)) - 1
        assert count == (columns or count), line
        columns = count


def test_markdown_has_its_figures_beside_it(folder, tmp_path):
    path = report.write([folder], "md", tmp_path / "study.md")
    markdown = path.read_text(encoding="utf-8")
    pictures = re.findall(r"!\[[^\]]*\]\(([^)]*)\)", markdown)
    assert len(pictures) == 6
    for picture in pictures:
        assert (tmp_path / picture).read_bytes().startswith(b"\x89PNG")
    assert_tables_are_whole(markdown)
    assert "| random |" in markdown
    for sentence in results.conclusion(results.load(folder))[1:]:
        assert sentence.replace("*", "\\*") in markdown


WITHOUT = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "torchvision", "ray", "prune_core", "sweep"):
            raise ModuleNotFoundError(f"blocked: {name}")

sys.meta_path.insert(0, Refuse())
from results import report
print(report.write([sys.argv[1]], to=sys.argv[2]))
"""


def test_a_report_needs_neither_torch_nor_ray(tmp_path):
    folder = made_up_sweep.write(tmp_path / "runs", list(made_up_sweep.rows())[:1])
    words = [sys.executable, "-c", WITHOUT, str(folder), str(tmp_path / "page.html")]
    root = Path(results.__file__).parents[1]
    done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=root)
    assert (done.returncode, done.stdout) == (0, f"{tmp_path / 'page.html'}\n"), done.stderr


TESTED = Grid(
    datasets=("svhn",),
    metrics=("random", "output_l1", "weighted_mutual_information", "wmi_snr"),
    ratios=(0.3, 0.45, 0.6),
    scopes=(("local", "none"), ("global", "none")),
)
PLANNED = (
    Comparison("wmi_snr", 0.3),
    Comparison("wmi_snr", 0.3, reference="random", scope="global"),
    Comparison("taylor", 0.3),
)


@pytest.fixture(scope="module")
def tested(tmp_path_factory) -> Path:
    """A study with planned comparisons and the control of its fine-tuning."""
    rows = [*made_up_sweep.rows(TESTED), *made_up_sweep.controls(TESTED)]
    folder = made_up_sweep.write(tmp_path_factory.mktemp("tested") / "runs", rows)
    write_plan(folder_of(folder), PlannedCells("tested", {}, PLANNED))
    return folder


@pytest.fixture(scope="module")
def tested_page(tested) -> Page:
    return Page(report.write([tested]).read_text(encoding="utf-8"))


def test_planned_comparisons_come_before_all_other_tables(tested, tested_page):
    table = results.planned_differences(results.load(tested), PLANNED)
    start = tested_page.text.index("These comparisons were named in the spec before the run")
    section = tested_page.text[start : tested_page.text.index("What was run", start)]
    for _, row in table.dropna(subset="p").iterrows():
        assert f"{row['difference_points']:+.2f}".replace("-", "\N{MINUS SIGN}") in section
    assert "taylor was not run here" in section
    ids = list(tested_page.ids)
    assert ids.index("planned") < ids.index("run") < ids.index("claims")


def test_other_p_values_are_counted_and_called_exploratory(tested):
    frame = results.load(tested)
    every = results.paired_difference(frame, None, "output_l1")["p"].count()
    every += results.at_equal_macs(frame, None, "output_l1")["p"].count()
    claims = results.claims(frame)
    every += claims.loc[claims["stage"] != "finetuned", "p"].count()
    primary = claims.loc[claims["family"] == "primary", "p"].count()
    assert primary == 2
    # Of the planned comparisons, one is among the differences to output_l1.
    said = verdicts.exploratory(frame, PLANNED)
    assert said.startswith(
        "All other p values of this report are exploratory, among them those of "
        f"{every - primary - 1} comparisons between metrics."
    )
    assert f"about {0.05 * (every - primary - 1):.0f} of these" in said
    without = verdicts.exploratory(frame, ())
    assert without.startswith("No comparison was named before the run")
    assert f"exploratory, among them those of {every - primary} comparisons" in without


def test_a_test_that_stands_in_two_tables_counts_once():
    draw = random.Random(0)

    def cell(metric, seed, **changes):
        return known_cells.cell(metric, seed, 0.5 + draw.random() / 10, macs=3_100, **changes)

    lent = {"scope": "widths_of", "budget": "widths_of(output_l1)"}
    rows = [
        cell(metric, seed, **where)
        for seed in (0, 1, 2)
        for metric, where in (
            ("output_l1", {"scope": "global"}),
            ("taylor", {"scope": "global"}),
            ("random", {"scope": "global"}),
            ("taylor", lent),
            ("random", lent),
        )
    ]
    frame = known_cells.frame(rows)
    assert results.paired_difference(frame, None, "output_l1")["p"].count() == 2
    effects = results.selection_against_allocation(frame).dropna(subset="p")["effect"]
    assert effects.value_counts().to_dict() == {
        "selection": 2,
        "allocation": 2,
        "both": 2,
        "selection over random": 2,
    }
    # Both: the two differences. Output_l1 over random: random's selection, with the other sign.
    assert comparisons_of_metrics(frame, ()) == (7, 0)
    assert comparisons_of_metrics(frame, [Comparison("taylor", 0.3, scope="global")]) == (6, 0)


def test_a_test_before_fine_tuning_counts_once_beside_two_recipes():
    none = {"recalibrated_test_top1": None}
    accuracies = {"weighted_mutual_information": (0.9, 0.8, 0.85), "output_l1": (0.5, 0.6, 0.55)}
    rows = known_cells.cells(accuracies, macs=3_100, dataset="svhn", **none)
    other = [row | {"finetune": "other", "finetuned_test_top1": None} for row in rows]
    frame = known_cells.frame([*rows, *other])
    judged = results.claims(frame).dropna(subset="p")
    assert judged["stage"].value_counts().to_dict() == {"pruned": 2, "finetuned": 1}
    # After pruning; the one after fine-tuning is primary.
    assert comparisons_of_metrics(frame, [Comparison("taylor", 0.3)]) == (1, 1)


def test_the_table_of_cells_tells_small_numbers_apart():
    sizes = {0.0625: 4_210, 0.0624: 1_000_000, 0.3: 2_000_000}
    rows = [known_cells.cell(ratio=ratio, macs=macs) for ratio, macs in sizes.items()]
    columns = {one["name"]: one for one in packed(known_cells.frame(rows))["columns"]}
    assert columns["ratio"]["values"] == [0.0625, 0.0624, 0.3]
    assert columns["macs"]["values"] == [0.0042, 1, 2]
    assert columns["macs"]["decimals"] == 4
    (usual,) = (
        one for one in packed(known_cells.frame(rows[1:]))["columns"] if one["name"] == "macs"
    )
    assert usual["decimals"] == 2


@pytest.mark.parametrize(
    ("epochs", "said", "column"),
    [
        (0, "test images, recalibrated, not fine-tuned, in %", "not fine-tuned, %"),
        (2, "test images after fine-tuning, in %", "fine-tuned, %"),
    ],
)
def test_a_sweep_without_fine_tuning_is_called_recalibrated(epochs, said, column, tmp_path):
    cells = known_cells.cells({"output_l1": [0.5], "random": [0.4]}, finetune_epochs=epochs)
    keyed = [row | {"key": f"{at:016x}"} for at, row in enumerate(cells)]
    read = read_tables([str(made_up_sweep.write(tmp_path / "runs", keyed))])
    for form, more in (("md", {}), ("html", {"cells": "", "style": "", "script": ""})):
        more = more and more | {"script_hash": "", "metrics": []}
        text = _render(f"report.{form}.j2", content(read), figures=[], **more)
        text = " ".join(text.split())
        assert said in text
        assert ("test images after fine-tuning" in text) == (epochs > 0)
        assert ("on the test images: fine-tuned, before that" in text) == (
            epochs > 0 and bool(more)
        )
    assert column in {one["label"] for one in packed(read.frame)["columns"]}


def test_both_forms_say_why_a_part_is_left_out(tmp_path):
    # The random channels have other widths than the network whose widths they borrow.
    rows = [
        known_cells.cell(metric, seed, 0.5 + seed / len(metric), scope="global")
        for metric in ("output_l1", "random")
        for seed in (0, 1)
    ]
    borrowed = {"scope": "widths_of", "budget": "widths_of(output_l1)", "parameter_ratio": 0.31}
    rows += [known_cells.cell("random", seed, 0.4, **borrowed) for seed in (0, 1)]
    keyed = [row | {"key": f"{at:016x}"} for at, row in enumerate(rows)]
    folder = made_up_sweep.write(tmp_path / "runs", keyed)
    page = Page(report.write([folder]).read_text(encoding="utf-8")).text
    markdown = report.write([folder], "md").read_text(encoding="utf-8").replace("\\", "")
    for text in (page, markdown):
        for start in (
            "This part cannot be computed",
            "How many comparisons are exploratory cannot be computed",
        ):
            assert f"{start}: on digits at ratio 0.3, the widths of output_l1" in text
        assert "none has a p value" not in text
        assert "Selection against allocation" in text


def test_a_recipe_that_lowers_the_unpruned_network_is_named(tested, tested_page):
    (row,) = results.finetuning_control(results.load(tested)).to_dict("records")
    assert row["difference_points"] == pytest.approx(-1.9)
    said = "On svhn, fine-tuning alone lowers the unpruned network by 1.9 points"
    assert said in tested_page.text
    assert "Fine-tuning alone lowers the unpruned network on svhn by 1.9" in tested_page.text


def test_controls_are_neither_metrics_nor_ratios_nor_budgets(tested, tested_page):
    made = content(read_tables([str(tested)]))
    assert "4 metrics · 3 target ratios" in made.summary
    facts = dict(made.grid)
    assert facts["ratios of parameters"] == "0.3, 0.45, 0.6"
    assert sorted(facts["budgets"].split(", ")) == ["global", "uniform_parameters"]
    assert "unpruned" not in facts["metrics (4)"]


def test_highlighting_finds_the_curves_of_a_metric_after_unpruned_in_the_alphabet(tested):
    text = report.write([tested]).read_text(encoding="utf-8")
    (chosen,) = re.findall(r'value="(\d+)" style="[^"]*"><i aria-hidden="true"></i>wmi_snr<', text)
    names = sorted(results.load(tested)["metric"].unique())
    assert names.index("wmi_snr") > names.index("unpruned")
    # The figures number the metrics that they draw.
    drawn = {int(at) for at in re.findall(r'-metric(\d+)-(?:line|training)"', text)}
    assert int(chosen) == max(drawn) == 3


def test_macs_are_shown_beside_parameters(tested, tested_page):
    frame = results.load(tested)
    local, other = (
        next(table for table in tables.accuracies(frame) if table.title.endswith(f", {scope}"))
        for scope in ("local", "global")
    )
    means = results.accuracy_table(frame)
    shared = means[(means["scope"] == "local") & (means["ratio"] == 0.3)]["macs_ratio"].iloc[0]
    assert local.columns[:2] == (
        "metric, by ratio of parameters",
        f"0.3 (parameters 0.30, MACs {shared:.2f})",
    )
    assert local.rows[0][1].below == ""
    assert other.columns[1] == "0.3"
    (own,) = means.query("scope == 'global' and ratio == 0.3 and metric == 'wmi_snr'")["macs_ratio"]
    own = f"parameters 0.30, MACs {own:.2f}"
    (entry,) = (row[1] for row in other.rows if row[0].text == "wmi_snr")
    assert entry.below == own
    differences = tables.differences(frame)[1]
    (entry,) = (row[1] for row in differences.rows if row[0].text == "wmi_snr")
    assert entry.below == own
    same = "scope == 'global' and ratio == 0.3 and metric == 'output_l1'"
    reference = means.query(same)["macs_ratio"].item()
    assert differences.columns[1] == f"0.3 (reference: parameters 0.30, MACs {reference:.2f})"
    for head in ("MACs left", "At equal multiply-accumulates", "which is in no interval"):
        assert head in tested_page.text


def test_markdown_has_the_same_parts(tested, tmp_path):
    markdown = report.write([tested], "md", tmp_path / "a.md").read_text(encoding="utf-8")
    assert_tables_are_whole(markdown)
    heads = [line for line in markdown.splitlines() if line.startswith("## ")]
    assert heads[:3] == ["## Conclusion", "## Planned comparisons", "## Figures"]
    assert "## Differences at equal multiply-accumulates" in heads
    assert "minus random" in markdown


RESIDUAL = Grid(
    datasets=("cifar10",),
    metrics=("random", "output_l1"),
    ratios=(0.3,),
    network=made_up_sweep.resnet(56),
)
INNER = replace(RESIDUAL, network=made_up_sweep.resnet(56, "inner"), groups="inner", first=100)
FILE = "0123456789abcdef"


def study(folder: Path, *grids: Grid) -> Path:
    rows = [row for grid in grids for row in made_up_sweep.rows(grid)]
    return made_up_sweep.write(folder, rows, scores=True)


def test_a_study_of_a_residual_network_has_a_report(tmp_path):
    folder = study(tmp_path / "runs", RESIDUAL)
    text = report.write([folder]).read_text(encoding="utf-8")
    page = Page(text)
    assert "This part cannot be computed" not in page.text
    assert "resnet56 (shortcut A) images of 32 \N{MULTIPLICATION SIGN} 32 pixels" in page.text
    assert "1 data set · resnet56 (shortcut A) · 2 metrics" in page.text
    assert "cifar10, resnet56 (shortcut A), local" in page.text
    assert "channel groups that can be pruned all" in page.text
    columns = {column["name"]: column for column in cells_of(text)["columns"]}
    assert columns["network"]["words"] == ["resnet56 (shortcut A)"]
    # One choice for all cells needs no column.
    assert not {"groups", "combine", "image_height", "weights"} & set(columns)
    assert "start from" not in page.text
    markdown = report.write([folder], "md", tmp_path / "a.md").read_text(encoding="utf-8")
    assert_tables_are_whole(markdown)
    assert "### cifar10, resnet56 (shortcut A), local" in markdown
    assert "resnet56 (shortcut A), images of 32" in markdown


def test_sweeps_that_share_baselines_have_tables_of_their_own(tmp_path):
    folder = study(tmp_path / "runs", RESIDUAL, INNER)
    text = report.write([folder]).read_text(encoding="utf-8")
    page = Page(text)
    for grouping in ("all", "inner"):
        assert f"cifar10, resnet56 (shortcut A), {grouping} groups, local" in page.text
    frame = results.load(folder)
    made = tables.accuracies(frame)
    assert len(made) == 2
    means = results.accuracy_table(frame[frame["groups"] == "inner"])
    (own,) = means.loc[means["metric"] == "random", "mean"]
    (inner,) = (table for table in made if table.title.endswith("inner groups, local"))
    (line,) = (row for row in inner.rows if row[0].text == "random")
    assert line[1].text == f"{100 * own:.2f}"
    ranked = [table.title for table in tables.ranks(frame)]
    assert ranked == ["local, all groups", "local, inner groups"]
    front = tables.front(frame)
    assert {row[0].text for row in front.rows} == {"cifar10, all groups", "cifar10, inner groups"}
    # The unpruned networks are the same, and each counts once.
    (unpruned,) = facts.baselines(frame).rows
    assert unpruned[5].text == "3"
    columns = {column["name"]: column for column in cells_of(text)["columns"]}
    assert columns["groups"]["words"] == ["all", "inner"]
    # Figures that average over a data set say why they do not.
    refused = "the cells of cifar10 are of several studies: groups is all and inner"
    for name in ("agreement", "training"):
        with pytest.raises(ValueError, match=refused):
            REPORT_FIGURES[name].draw(read_tables([str(folder)]))


def test_scores_of_two_groupings_are_not_correlated(tmp_path):
    one, other = (replace(RESIDUAL, metrics=("random",)), replace(INNER, metrics=("taylor",)))
    sweep = read_tables([str(study(tmp_path / "runs", one, other))])
    with pytest.raises(ValueError, match="random and taylor scored different channel groups"):
        print(sweep.agreement)


def test_seeds_that_share_weights_are_said_to(tmp_path):
    grid = replace(RESIDUAL, weights=FILE, network=made_up_sweep.resnet(8))
    folder = study(tmp_path / "runs", grid)
    page = Page(report.write([folder]).read_text(encoding="utf-8"))
    said = "All seeds start from the same weights, those of a file: intervals over seeds say how"
    markdown = _render("report.md.j2", content(read_tables([str(folder)])), figures=[])
    for text in (page.text, " ".join(markdown.split())):
        # In the conclusion, and beside networks, accuracies, differences and ranks.
        assert text.count(said) == 5
    assert "images of 32 \N{MULTIPLICATION SIGN} 32 pixels, weights 01234567" in page.text
    assert_tables_are_whole(markdown)


@pytest.fixture(scope="module")
def solved(compensated, tmp_path_factory) -> Path:
    """A study with and without compensation, one cell of which failed."""
    grid = Grid(("svhn",), TESTED.metrics, (0.3, 0.6))
    rows = compensated(grid, "least_squares", "least_squares_sequential(images=2048)")
    lost = next(row for row in rows if row["compensation"] == "least_squares")
    lost |= {"status": "failed", "error": "singular"}
    rows += made_up_sweep.controls(grid)
    return made_up_sweep.write(tmp_path_factory.mktemp("solved") / "runs", rows, scores=True)


@pytest.fixture(scope="module")
def solved_text(solved) -> str:
    return report.write([solved]).read_text(encoding="utf-8")


def test_a_report_says_what_compensation_adds(solved, solved_text):
    page = Page(solved_text)
    frame = results.load(solved)
    start = page.text.index("What compensation adds")
    section = page.text[start : page.text.index("Top-1 accuracy", start)]
    for at in ("recalibrated", "finetuned"):
        gains = results.mean_compensation_gain(frame, at)
        assert len(gains) == 4
        for _, row in gains.iterrows():
            low, high = (f"{row[f'{end}_points']:+.1f}" for end in ("low", "high"))
            shown = f"{row['difference_points']:+.1f} [{low}, {high}]"
            assert shown.replace("-", "\N{MINUS SIGN}") in section
    # One cell failed, so its metric does not count at this ratio.
    assert "3 1 left out 3" in section
    start = "svhn, simplenet_310k, local, least_squares: before any training, in the mean over"
    assert f"{start} 3 to 4 metrics, compensation raises accuracy at every ratio" in section
    assert "compensation" in page.ids
    assert "This part cannot be computed" not in page.text
    assert "The abstracts know no compensation: only networks without it are judged" in page.text


def test_parts_of_a_report_name_the_compensation(solved, solved_text, tmp_path):
    names = ("no compensation", "least_squares", "least_squares_sequential(images=2048)")
    titles = [f"svhn, simplenet_310k, local, {name}" for name in names]
    frame = results.load(solved)
    for made in (tables.accuracies(frame), tables.differences(frame), tables.equal_macs(frame)):
        assert [table.title for table in made] == titles
    assert sorted(table.title for table in tables.ranks(frame)) == sorted(
        f"local, {name}" for name in names
    )
    front = tables.front(frame)
    assert {row[0].text for row in front.rows} == {f"svhn, {name}" for name in names}
    assert {row[2].text for row in front.rows} <= {"", "local"}
    assert dict(facts.grid(frame))["compensations"] == (
        "least_squares, least_squares_sequential(images=2048), none"
    )
    (failure,), _ = facts.failures(frame)
    assert " none least_squares 0.3 " in failure.cells[0]
    columns = {column["name"]: column for column in cells_of(solved_text)["columns"]}
    assert columns["compensation"]["words"] == sorted(["none", *names[1:]])
    assert columns["compensation"]["choice"]
    shown = (columns[name]["values"] for name in ("key", "compensated_test_top1"))
    values = dict(zip(*shown, strict=True))
    told = frame.set_index("key")["compensated_test_top1"]
    for at, key in enumerate(columns["key"]["words"]):
        missing = told[key] != told[key]
        assert values[at] is None if missing else abs(values[at] - 100 * told[key]) < 0.0051
    assert len(re.findall(r"<svg.*?</svg>", solved_text, re.DOTALL)) == 7
    markdown = report.write([solved], "md", tmp_path / "a.md").read_text(encoding="utf-8")
    assert_tables_are_whole(markdown)
    assert "## What compensation adds" in markdown
    assert "| 3, 1 left out | 3 |" in markdown
    assert "(a-figures/without_training.png)" in markdown


def test_a_report_without_compensation_says_nothing_of_it(text, folder):
    assert "compensation" not in Page(text).text.replace("no compensation", "")
    columns = {column["name"] for column in cells_of(text)["columns"]}
    assert not {"compensation", "compensated_test_top1"} & columns
    frame = results.load(folder)
    assert "compensations" not in dict(facts.grid(frame))
    assert gains.compensation(frame) is None
    told = made_up_sweep.write(folder.parent / "told", [])
    assert content(read_tables([str(told)])).compensation.content is None


def gained(points: dict[float, tuple[float, ...]], finetune_epochs: int = 20) -> pd.DataFrame:
    """Cells of one metric whose recalibrated accuracies gain these points by seed."""
    grid = Grid(("svhn",), ("random",), tuple(points), seeds=(0, 1, 2))
    rows = []
    for row in made_up_sweep.rows(grid):
        gain = points[row["ratio"]]
        if row["seed"] < len(gain):
            other = {"key": f"a{row['key'][1:]}", "compensation": "least_squares"}
            other["recalibrated_test_top1"] = 0.4 + gain[row["seed"]] / 100
            plain = {"recalibrated_test_top1": 0.4, "finetune_epochs": finetune_epochs}
            rows += [row | plain, row | plain | other]
    return known_cells.frame(rows)


@pytest.mark.parametrize(
    ("points", "said"),
    [
        (
            {0.3: (30, 31, 32), 0.6: (10, 11, 12)},
            "raises accuracy at every ratio, most at 0.3, by 31.0 points [+28.5, +33.5]",
        ),
        ({0.3: (30, 31, 32)}, "raises accuracy at 0.3 by 31.0 points [+28.5, +33.5]"),
        (
            {0.3: (30, 31, 32), 0.5: (-1, 0, 2), 0.6: (-1, 1, 0), 0.7: (-20, -21, -22)},
            "raises accuracy at 0.3 by 31.0 points [+28.5, +33.5], lowers accuracy at 0.7 by 21.0 "
            "points [\N{MINUS SIGN}23.5, \N{MINUS SIGN}18.5] and leaves it open at 0.5 and 0.6, "
            "where the 95 % intervals contain zero",
        ),
        (
            {0.3: (30, 31, 32), 0.5: (-1, 0, 2)},
            "raises accuracy at 0.3 by 31.0 points [+28.5, +33.5] and leaves it open at 0.5, where "
            "the 95 % interval contains zero",
        ),
        (
            {0.3: (30,), 0.5: (-2,)},
            "changes accuracy by +30.0 points at 0.3 and \N{MINUS SIGN}2.0 at 0.5 (one seed: no "
            "interval)",
        ),
        (
            {0.3: (30, 30, 30)},
            "changes accuracy by +30.0 points at 0.3 (equal in all seeds: no interval)",
        ),
    ],
    ids=str,
)
def test_the_verdict_in_words(points, said):
    found = gains.compensation(gained(points, finetune_epochs=0))
    (sentence,) = found.sentences
    start = "svhn, simplenet_310k, local, least_squares: before any training, in the mean over"
    assert sentence == f"{start} 1 metric, compensation {said}."
    (table,) = found.tables
    assert [row[0].text for row in table.rows] == [f"{ratio:g}" for ratio in points]
    # Nothing was fine-tuned.
    assert {row[2].text for row in table.rows} == {"\N{EN DASH}"}


def test_the_verdict_after_fine_tuning_is_told_apart():
    (sentence,) = gains.compensation(gained({0.3: (30, 31, 32)})).sentences
    assert sentence.endswith(
        "; after fine-tuning, it changes accuracy by +0.0 points at 0.3 (equal in all seeds: no "
        "interval)."
    )


def test_gains_of_unequal_cells_have_their_own_counts():
    cells = gained({0.3: (30, 31, 32), 0.6: (10, 11, 12)})
    (table,) = gains.compensation(cells).tables
    assert {row[1].below for row in table.rows} == {""}
    assert [[entry.text for entry in row[5:]] for row in table.rows] == [["1", "3"]] * 2
    unknown = (cells["seed"] == 0) & (cells["ratio"] == 0.3)
    cells.loc[unknown, "recalibrated_test_top1"] = None
    (table,) = gains.compensation(cells).tables
    first, second = table.rows
    assert [first[at].below for at in (1, 2)] == ["1 metric, 2 seeds", "1 metric, 3 seeds"]
    assert [entry.text for entry in first[5:]] == ["\N{EN DASH}"] * 2
    assert [entry.text for entry in second[5:]] == ["1", "3"]


def test_the_sentence_names_the_metrics_of_each_stage():
    cells = gained({0.3: (30, 31, 32)})
    other = cells.assign(metric="taylor", recalibrated_test_top1=None)
    other = other.assign(key="b" + other["key"].str[1:])
    (sentence,) = gains.compensation(pd.concat([cells, other], ignore_index=True)).sentences
    assert "before any training, in the mean over 1 metric, compensation raises" in sentence
    assert "; after fine-tuning, in the mean over 2 metrics, it changes" in sentence
