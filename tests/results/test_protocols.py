"""Recipes of fine-tuning, schedules and targets: nothing of different ones is pooled."""

import made_up_sweep
import numpy as np
import pandas as pd
import pytest
from known_cells import cell, cells, frame, unpruned

import results
from results import Store, figures, report
from results.analysis.protocols import finetune_name, schedule_name, target_name, target_names
from results.analysis.study import POINT, STUDY, completed
from results.figures.panels import comparable, panels
from results.report import tables
from results.report.cell_table import packed
from results.storage.frames import STEPS
from results.storage.plan_file import Comparison

ITERATIVE = "iterative(steps=3)"
LOW = {"finetune": "low_rate"}
STEPS_OF_THREE = {"schedule": ITERATIVE, "schedule_options": '{"steps": 3}'}
OTHERS = {
    "finetune": LOW | {"finetune_epochs": 20, "recipe": {"learning_rate": 0.01}},
    "schedule": STEPS_OF_THREE,
}


def by_macs(rows, budget="uniform_macs"):
    """The same cells as if their budget counted multiply-accumulates."""
    return [row | {"ratio_of": "macs", "budget": budget} for row in rows]


def study(accuracy, **changes):
    return cells({"random": accuracy, "output_l1": [0.5, 0.6]}, **changes)


@pytest.mark.parametrize("column", OTHERS)
def test_recipes_and_schedules_have_rows_of_their_own(column):
    plain, other = study([0.4, 0.4]), study([0.8, 0.9], **OTHERS[column])
    table = frame(plain + other)
    means = results.accuracy_table(table).query("metric == 'random'")
    assert means.set_index(column)["mean"].round(6).to_dict() == {
        {"finetune": "finetune", "schedule": "one_shot"}[column]: 0.4,
        OTHERS[column][column]: 0.85,
    }
    differences = results.paired_difference(table, "random", "output_l1")
    assert sorted(differences["difference_points"].round(6)) == [-15, 30]
    assert differences["seeds"].tolist() == [2, 2]
    ranked = results.rank_metrics(table)
    assert len(ranked) == 4
    assert ranked.groupby(column, sort=False)["blocks"].first().tolist() == [2, 2]
    fronts = results.pareto(table)
    assert fronts.groupby(column)["on_front"].sum().tolist() == [1, 1]
    # What a table says of one is what it says without the other.
    alone = results.accuracy_table(frame(other)).reset_index(drop=True)
    chosen = results.accuracy_table(table)
    chosen = chosen[chosen[column] == OTHERS[column][column]].reset_index(drop=True)
    pd.testing.assert_frame_equal(chosen, alone, check_dtype=False)


def test_rows_that_say_nothing_mean_the_only_recipe_one_shot_and_parameters():
    unsaid = frame(study([0.4, 0.5]))
    assert unsaid[["finetune", "schedule"]].isna().all(axis=None)
    unsaid["ratio_of"] = unsaid["ratio_of"].where(unsaid["ratio_of"].isna())
    said = completed(unsaid)
    assert set(said["finetune"]) == {"finetune"}
    assert set(said["schedule"]) == {"one_shot"}
    assert set(said["ratio_of"]) == {"parameters"}
    channels = completed(unsaid.assign(budget="uniform_channels"))
    assert set(channels["ratio_of"]) == {"channels"}
    told = frame(study([0.4, 0.5], finetune="finetune", schedule="one_shot"))
    pd.testing.assert_frame_equal(results.accuracy_table(unsaid), results.accuracy_table(told))


def test_one_name_for_two_recipes_is_refused():
    rows = study([0.4, 0.5], **LOW, recipe={"learning_rate": 0.01})
    other = [cell("taylor", seed, **LOW, recipe={"learning_rate": 0.1}) for seed in (0, 1)]
    with pytest.raises(ValueError, match=r"finetune.learning_rate is 0.01 and 0.1.*"):
        results.accuracy_table(frame(rows + other))


def test_equal_ratios_of_parameters_and_of_macs_are_never_pooled():
    rows = study([0.4, 0.4])
    # Even under one budget name, as of a plugin that changed.
    table = frame(rows + by_macs(study([0.8, 0.9]), rows[0]["budget"]))
    means = results.accuracy_table(table).query("metric == 'random'")
    assert means.set_index("ratio_of")["mean"].round(6).to_dict() == {
        "parameters": 0.4,
        "macs": 0.85,
    }
    assert len(results.rank_metrics(table)) == 4


def test_scratch_stands_beside_every_recipe_and_schedule():
    scratch = [cell("scratch", seed, 0.7, finetune_epochs=4) for seed in (0, 1)]
    rows = study([0.4, 0.4]) + scratch
    rows += study([0.5, 0.5], **OTHERS["finetune"]) + study([0.6, 0.6], **OTHERS["schedule"])
    table = results.paired_difference(frame(rows), "random", "scratch")
    found = table.set_index(["finetune", "schedule"])["difference_points"].round(6).to_dict()
    assert found == {
        ("finetune", "one_shot"): -30,
        ("low_rate", "one_shot"): -20,
        ("finetune", ITERATIVE): -10,
    }


def test_selection_and_allocation_are_within_one_schedule_and_target():
    lent = {"scope": "widths_of", "budget": "widths_of(output_l1)"}

    def grid(shift, **changes):
        own = cells({"output_l1": [0.6, 0.7], "taylor": [0.7, 0.75]}, scope="global", **changes)
        return own + cells({"taylor": [0.5 + shift, 0.6 + shift]}, **lent, **changes)

    def of_macs(rows):
        names = {"global": "global(of=macs)", lent["budget"]: "widths_of(output_l1, of=macs)"}
        return [row | {"ratio_of": "macs", "budget": names[row["budget"]]} for row in rows]

    rows = grid(0) + grid(0.1, **STEPS_OF_THREE) + of_macs(grid(0.2))
    table = results.selection_against_allocation(frame(rows)).query("effect == 'selection'")
    found = table.set_index(["schedule", "ratio_of"])["difference_points"].round(6).to_dict()
    assert found == {
        ("one_shot", "parameters"): -10,
        (ITERATIVE, "parameters"): 0,
        ("one_shot", "macs"): 10,
    }


def test_compensation_is_compared_within_one_schedule_and_recipe():
    rows = []
    for gain, changes in ((0.01, {}), (0.02, OTHERS["finetune"]), (0.03, OTHERS["schedule"])):
        rows += cells({"random": [0.5, 0.5]}, compensation="none", **changes)
        better = [0.5 + gain, 0.5 + gain]
        rows += cells({"random": better}, compensation="least_squares", **changes)
    table = results.compensation_gain(frame(rows), "finetuned")
    points = table.set_index(["finetune", "schedule"])["difference_points"].round(6)
    assert points.to_dict() == {
        ("finetune", "one_shot"): 1,
        ("low_rate", "one_shot"): 2,
        ("finetune", ITERATIVE): 3,
    }
    assert (table["seeds"] == 2).all()


def test_the_control_is_compared_with_its_own_recipe():
    rows = [unpruned(seed, 0.9, 0.8) for seed in (0, 1)]
    rows += [unpruned(seed, 0.9, 0.85, **OTHERS["finetune"]) for seed in (0, 1)]
    rows += study([0.4, 0.4]) + study([0.4, 0.4], **OTHERS["finetune"])
    table = results.finetuning_control(frame(rows))
    assert table.set_index("finetune")["difference_points"].round(6).to_dict() == {
        "finetune": -10,
        "low_rate": -5,
    }


def test_planned_comparisons_name_recipe_and_schedule():
    rows = study([0.4, 0.4]) + study([0.5, 0.8], **OTHERS["finetune"])
    rows += study([0.7, 0.7], **OTHERS["schedule"]) + by_macs(study([0.9, 0.9]))
    planned = [
        Comparison("random", 0.3),
        Comparison("random", 0.3, finetune="low_rate"),
        Comparison("random", 0.3, schedule=ITERATIVE),
        Comparison("random", 0.3, budget="uniform_macs"),
        Comparison("random", 0.3, finetune="none"),
    ]
    table = results.planned_differences(frame(rows), planned)
    assert table["difference_points"].round(6).tolist()[:4] == [-15, 10, 15, 35]
    assert table["ratio_of"].tolist()[:4] == ["parameters"] * 3 + ["macs"]
    assert table["finetune"].tolist() == ["finetune", "low_rate", "finetune", "finetune", "none"]
    assert table["note"].tolist()[4] == "random was not run here"


def test_claims_are_judged_by_cells_that_are_pruned_once_to_a_ratio_of_parameters():
    values = {"entropy_gaussian": [0.9, 0.8, 0.85], "output_l1": [0.4, 0.3, 0.35]}
    place = {"dataset": "cifar10", "scope": "global", "ratio": 0.4}
    plain = cells(values, **place)
    others = cells(values, **place, **STEPS_OF_THREE)
    others += by_macs(cells(values, **place), "global(of=macs)")
    judged = results.claims(frame(plain + others))
    pd.testing.assert_frame_equal(judged, results.claims(frame(plain)))
    assert (judged["verdict"] != "not run").any()
    assert set(results.claims(frame(others))["verdict"]) == {"not run"}


def test_the_conclusion_counts_a_metric_of_any_layerwise_budget():
    rows = [
        row | {"budget": "sensitivity(of=macs)", "ratio_of": "macs"} for row in study([0.9] * 2)
    ]
    (first, *_) = results.conclusion(frame(rows))
    assert "sensitivity(of=macs)" in first
    assert "ratio of MACs" in first
    text = results.conclusion(frame(study([0.9, 0.8], **OTHERS["schedule"])))[0]
    assert ITERATIVE in text


def test_names():
    assert finetune_name("none") == "no fine-tuning"
    assert finetune_name("low_rate") == "recipe low_rate"
    assert schedule_name("one_shot") == "one shot"
    assert schedule_name(ITERATIVE) == ITERATIVE
    assert target_name("macs") == "ratio of MACs"
    assert target_names(["channels", "channels"]) == "ratio of channels"
    assert target_names(["macs", "parameters"]) == target_names([]) == "ratio"


# Where a step ended, and the epochs of its fine-tuning.
ENDED = [
    {
        "step": at,
        "ratio": ratio,
        "parameters": 1000 - 100 * at,
        "macs": 9000 - 1000 * at,
        "pruned_validation_top1": 0.1 * at,
        "pruned_test_top1": 0.1 * at + 0.01,
        "finetuned_validation_top1": 0.2 * at,
        "finetuned_test_top1": 0.2 * at + 0.01,
        "seconds": float(at),
    }
    for at, ratio in ((1, 0.7), (2, 0.5), (3, 0.3))
]
EPOCHS = [
    {"step": step, "epoch": epoch, "loss": 3.0 - step + 0.1 * (2 - epoch), "accuracy": 0.5}
    for step in (1, 2, 3)
    for epoch in (1, 2)
]


@pytest.fixture
def folder(tmp_path):
    """An iterative cell, with its steps and epochs in another order, and one of one shot."""
    store = Store(tmp_path / "runs")
    store.create()
    iterative = cell("random", **STEPS_OF_THREE) | {"key": "a" * 16}
    store.write(iterative | {"steps": ENDED[::-1], "history": EPOCHS[::-1]})
    epochs = [{"epoch": epoch, "loss": 1.0 / epoch, "accuracy": 0.5} for epoch in (1, 2)]
    store.write(cell("random", schedule="one_shot") | {"key": "b" * 16, "history": epochs})
    return tmp_path / "runs"


def test_steps_have_a_row_each_and_the_cells_of_one_shot_have_none(folder):
    for _ in range(2):
        steps = results.load_steps(folder)
        assert steps.columns.tolist() == STEPS
        assert steps["key"].tolist() == ["a" * 16] * 3
        assert steps["step"].tolist() == [1, 2, 3]
        assert steps["step_ratio"].tolist() == [0.7, 0.5, 0.3]
        assert (steps["ratio"] == 0.3).all()
        for name in ("parameters", "macs", "pruned_test_top1", "finetuned_test_top1", "seconds"):
            assert steps[name].tolist() == [step[name] for step in ENDED]
        few = results.load_steps(folder, ["step", "macs"], [("schedule", "==", ITERATIVE)])
        assert few.columns.tolist() == ["step", "macs"]
        assert len(few) == 3
        assert len(results.load_steps(folder, filters=[("schedule", "==", "one_shot")])) == 0
        Store(folder).compact()


def test_the_history_says_the_step_and_curves_go_through_all_steps(folder):
    history = results.load_history(folder)
    iterative = history[history["schedule"] == ITERATIVE]
    assert iterative[["step", "epoch"]].to_numpy().tolist() == [
        [step, epoch] for step in (1, 2, 3) for epoch in (1, 2)
    ]
    assert history.loc[history["schedule"] == "one_shot", "step"].isna().all()
    figure = figures.training_curves(history)
    drawn = {place.get_title(loc="left").replace("\n", " "): place for place in figure.axes}
    drawn = {name: place for name, place in drawn.items() if place.lines}
    (through,) = (place for name, place in drawn.items() if ITERATIVE in name)
    assert through.lines[0].get_xdata().tolist() == [1, 2, 3, 4, 5, 6]
    np.testing.assert_allclose(through.lines[0].get_ydata(), [2.1, 2, 1.1, 1, 0.1, 0])
    (once,) = (place for name, place in drawn.items() if "one shot" in name)
    assert once.lines[0].get_xdata().tolist() == [1, 2]
    assert "at 0.3 of parameters" in " ".join(drawn)


GRID = made_up_sweep.Grid(("cifar10",), ("random", "output_l1", "taylor"), (0.2, 0.4, 0.6))


@pytest.fixture(scope="module")
def mixed(tmp_path_factory) -> pd.DataFrame:
    """A made-up sweep with two recipes, two schedules and two targets."""
    return results.load(written(tmp_path_factory.mktemp("mixed") / "runs"))


def written(folder):
    rows = list(made_up_sweep.rows(GRID))
    others = [
        LOW | {"finetune_epochs": 5},
        STEPS_OF_THREE,
        {"ratio_of": "macs", "budget": "uniform_macs"},
    ]
    for at, changes in enumerate(others):
        for row in made_up_sweep.rows(GRID):
            shift = {"finetuned_test_top1": row["finetuned_test_top1"] + 0.01 * (2 * at - 3)}
            rows.append(row | changes | shift | {"key": f"{'abc'[at]}{row['key'][1:]}"})
    return made_up_sweep.write(folder, rows, scores=True)


def titles(figure):
    found = [place.get_title(loc="left") for place in figure.axes]
    return [title.replace("\n", " ") for title in found if title]


START = "cifar10, simplenet_310k, "
PANELS = [
    f"{START}recipe finetune, uniform_macs, one shot, ratio of MACs",
    f"{START}recipe finetune, uniform_parameters, {ITERATIVE}, ratio of parameters",
    f"{START}recipe finetune, uniform_parameters, one shot, ratio of parameters",
    f"{START}recipe low_rate, uniform_parameters, one shot, ratio of parameters",
]


def test_panels_are_apart_and_say_what_tells_them(mixed):
    assert sorted(panel.title for panel in panels(comparable(mixed))) == PANELS
    plain = mixed.query("finetune == 'finetune' and schedule == 'one_shot'")
    (alone,) = panels(comparable(plain[plain["ratio_of"] == "parameters"]))
    assert alone.title == f"{START}local"
    (alone,) = panels(comparable(plain[plain["ratio_of"] == "macs"]))
    assert (alone.title, alone.target) == (
        f"{START}uniform_macs, ratio of MACs",
        "ratio of MACs",
    )


def test_the_axis_of_sizes_is_what_the_ratio_counts(mixed):
    figure = figures.accuracy(mixed)
    labels = {
        title: place.get_xlabel() for title, place in zip(titles(figure), figure.axes, strict=False)
    }
    assert {"ratio of MACs" in title: label for title, label in labels.items()} == {
        True: "MACs ratio",
        False: "parameter ratio",
    }
    for title, place in zip(titles(figure), figure.axes, strict=False):
        (line,) = (one for one in place.lines if one.get_label() == "taylor")
        counted = "mac_ratio" if "ratio of MACs" in title else "parameter_ratio"
        own = mixed[(mixed["metric"] == "taylor") & (mixed["ratio_of"] == "parameters")]
        expected = own.query("schedule == 'one_shot' and finetune == 'finetune'")
        expected = expected.groupby("ratio")[counted].mean()
        np.testing.assert_allclose(sorted(line.get_xdata()), sorted(expected))
    notes = [text.get_text() for place in figure.axes for text in place.texts]
    assert sum("parameters left" in note for note in notes) == 1
    assert sum("MACs left" in note for note in notes) == 3


def test_figures_at_a_target_ratio_say_what_it_counts(mixed):
    def said(figure):
        legend = [text.get_text() for one in figure.legends for text in one.texts]
        return " ".join([*legend, *(place.get_xlabel() for place in figure.axes)])

    of_macs = mixed[mixed["ratio_of"] == "macs"]
    of_parameters = mixed[mixed["ratio_of"] == "parameters"]
    for table, words in (
        (of_macs, "ratio of MACs 0.2"),
        (of_parameters, "ratio of parameters 0.2"),
    ):
        assert words in said(figures.differences(table))
        assert words in said(figures.kept_widths(table))
    both = said(figures.differences(mixed))
    assert "ratio 0.2" in both
    assert "ratio of" not in both


def test_widths_of_one_shot_do_not_depend_on_the_recipe(mixed):
    one_target = mixed[mixed["ratio_of"] == "parameters"]
    found = sorted(titles(figures.kept_widths(one_target)))
    assert len(found) == 2
    assert found[0] == f"{START}local, one shot"
    assert ITERATIVE in found[1]


def test_every_table_with_a_size_has_parameters_and_macs_and_names_the_target(mixed):
    for made in (tables.accuracies(mixed), tables.differences(mixed)):
        assert sorted(table.title for table in made) == PANELS
        for table in made:
            target = "ratio of MACs" if "uniform_macs" in table.title else "ratio of parameters"
            assert table.columns[0] == f"metric, by {target}"
            text = " ".join([*table.columns, *(entry.below for row in table.rows for entry in row)])
            assert "parameters 0." in text
            assert "MACs 0." in text
    for table in [*tables.ranks(mixed), tables.front(mixed)]:
        assert table.columns.index("MACs left") == table.columns.index("parameters left") + 1
    front = tables.front(mixed)
    at = front.columns.index("ratio")
    assert {row[at].detail for row in front.rows} == {"", "of parameters", "of MACs"}


def test_the_table_of_cells_has_sizes_latency_and_what_the_target_counts(mixed):
    columns = {column["name"]: column for column in packed(mixed)["columns"]}
    first = mixed.iloc[0]
    assert columns["macs_ratio"]["values"][0] == round(first["mac_ratio"], 4)
    ratio = first["latency_1_ms"] / first["latency_full_1_ms"]
    assert columns["latency_ratio"]["values"][0] == pytest.approx(ratio, abs=5e-4)
    assert columns["ratio_of"]["words"] == ["macs", "parameters"]
    assert columns["schedule"]["words"] == [ITERATIVE, "one_shot"]
    assert columns["finetune"]["words"] == ["finetune", "low_rate"]
    plain = mixed.query("schedule == 'one_shot' and finetune == 'finetune'")
    names = [column["name"] for column in packed(plain)["columns"]]
    assert not {"schedule", "finetune"} & set(names)


def test_a_report_of_all_of_them_has_no_part_that_cannot_be_computed(tmp_path):
    folder = written(tmp_path / "runs")
    text = report.write([folder], "md").read_text()
    assert "cannot be computed" not in text
    for words in (
        "fine-tuning low_rate: ",
        "schedules: ",
        ITERATIVE,
        "ratios of MACs: 0.2, 0.4, 0.6",
        "ratios of parameters: 0.2, 0.4, 0.6",
    ):
        assert words in text


def test_points_and_studies_have_the_new_columns():
    assert {"schedule", "ratio_of", "compensation"} < set(POINT)
    assert "finetune" in STUDY
