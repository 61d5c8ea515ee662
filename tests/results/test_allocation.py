"""Effects of selection and allocation: known answers, and both add up."""

import numpy as np
import pandas as pd
import pytest
from known_cells import cell, cells, failed, frame

import results

LENT = {"scope": "widths_of", "budget": "widths_of(output_l1)"}


def study():
    """Accuracies by seed: A is output_l1, B is taylor."""
    rows = cells({"output_l1": [0.50, 0.60], "taylor": [0.80, 0.85]}, scope="global")
    rows += cells({"taylor": [0.55, 0.62], "random": [0.20, 0.40]}, **LENT)
    rows += cells({"scratch": [0.70, 0.90]}, finetune_epochs=4, recipe={"epochs": 4}, **LENT)
    # Local cells must be ignored.
    return rows + cells({"output_l1": [0.1, 0.1], "taylor": [0.2, 0.3], "scratch": [0.0, 0.1]})


def effects(rows):
    table = results.selection_against_allocation(frame(rows))
    assert (table["widths_of"] == "output_l1").all()
    return table.set_index(["effect", "metric"])


def test_effects_computed_by_hand():
    table = effects(study())
    points = table["difference_points"].round(6).to_dict()
    assert points == {
        ("selection", "random"): -25,
        ("scratch", "scratch"): 25,
        ("selection over random", "output_l1"): 25,
        ("selection", "taylor"): 3.5,
        ("allocation", "taylor"): 24,
        ("both", "taylor"): 27.5,
        ("selection over random", "taylor"): 28.5,
    }
    assert (table["seeds"] == 2).all()
    assert (table["unpaired"] == 0).all()
    assert (table["finetune_epochs"] == 2).all()
    row = table.loc[("selection", "taylor")]
    assert (row["accuracy"], row["accuracy_reference"]) == (
        pytest.approx(0.585),
        pytest.approx(0.55),
    )
    assert row["deviation_points"] == pytest.approx(np.std([5, 2], ddof=1))


def test_effects_are_between_cells_of_one_compensation():
    own = {"compensation": "least_squares"}
    rows = study() + cells(
        {"output_l1": [0.60, 0.70], "taylor": [0.7, 0.75]}, scope="global", **own
    )
    rows += cells({"taylor": [0.55, 0.62]}, **LENT, **own)
    table = effects(rows).reset_index().set_index(["compensation", "effect", "metric"])
    alone = effects(study())["difference_points"]
    points = table["difference_points"]
    pd.testing.assert_series_equal(points["none"].sort_index(), alone.sort_index())
    # The network trained from scratch has no compensation, and stands beside both.
    assert points["least_squares"].round(6).to_dict() == {
        ("selection", "taylor"): -6.5,
        ("allocation", "taylor"): 14,
        ("both", "taylor"): 7.5,
        ("scratch", "scratch"): 15,
    }


def test_selection_and_allocation_add_up_to_both():
    chance = np.random.default_rng(0)
    rows = cells({name: chance.random(5) for name in ("output_l1", "taylor")}, scope="global")
    rows += cells({"taylor": chance.random(5)}, **LENT)
    points = effects(rows)["difference_points"]
    parts = points[("selection", "taylor")] + points[("allocation", "taylor")]
    assert points[("both", "taylor")] == pytest.approx(parts)


def test_widths_of_a_metric_with_options_are_read_from_the_budget():
    name = "mutual_information(bins=64)"
    rows = cells({name: [0.5, 0.6], "taylor": [0.8, 0.9]}, scope="global")
    rows += cells({"taylor": [0.7, 0.9]}, scope="widths_of", budget=f"widths_of({name})")
    table = results.selection_against_allocation(frame(rows))
    assert set(table["widths_of"]) == {name}
    found = table.set_index("effect")["difference_points"].round(6).to_dict()
    assert found == {"selection": 25, "allocation": 5, "both": 30}


def test_each_widths_of_normalisation_and_ratio_has_its_own_rows():
    rows = []
    for at, (normalisation, ratio) in enumerate(
        [("none", 0.3), ("none", 0.5), ("layer_mean", 0.3)]
    ):
        changes = {"normalisation": normalisation, "ratio": ratio}
        values = {"output_l1": [0.5, 0.5], "taylor": [0.6, 0.6 + at / 10]}
        rows += cells(values, scope="global", **changes)
        rows += cells({"taylor": [0.5, 0.5 + at / 10]}, **LENT, **changes)
        lent = {"scope": "widths_of", "budget": "widths_of(taylor)"}
        rows += cells({"output_l1": [0.4, 0.4]}, **lent, **changes)
    table = results.selection_against_allocation(frame(rows))
    assert len(table) == 3 * 2 * 3
    assert not table.duplicated(["widths_of", "normalisation", "ratio", "effect", "metric"]).any()
    found = table[(table["effect"] == "selection") & (table["widths_of"] == "output_l1")]
    assert sorted(found["difference_points"].round(6)) == [0, 5, 10]


def test_a_missing_global_cell_is_noted():
    rows = cells({"taylor": [0.5, 0.6], "random": [0.2, 0.3]}, **LENT)
    table = effects(rows)
    row = table.loc[("selection", "taylor")]
    assert row["seeds"] == 0
    assert row["note"].endswith("was not run here")
    assert table.loc[("selection over random", "taylor"), "difference_points"] == pytest.approx(30)


def test_random_may_be_the_metric_whose_widths_are_used():
    rows = cells({"random": [0.2, 0.3], "taylor": [0.9, 0.8]}, scope="global")
    rows += cells({"taylor": [0.5, 0.7]}, scope="widths_of", budget="widths_of(random)")
    table = results.selection_against_allocation(frame(rows)).set_index("effect")
    assert table.loc["selection over random", "difference_points"] == pytest.approx(35)
    assert table.loc["selection", "difference_points"] == pytest.approx(35)


def test_one_seed_has_no_interval_and_failed_cells_are_not_paired():
    rows = [*cells({"output_l1": [0.5], "taylor": [0.6]}, scope="global")]
    rows += [cell("taylor", 0, 0.7, **LENT), failed("random", 0, **LENT)]
    table = effects(rows)
    assert table.loc[("selection", "taylor"), "note"] == "one seed: no interval"
    assert np.isnan(table.loc[("selection", "taylor"), "low_points"])
    assert table.loc[("selection", "random"), "seeds"] == 0


def test_holms_family_is_all_effects():
    table = effects(study())
    p = table["p"].dropna()
    assert len(p) > 3
    assert table["p_holm"].min() == pytest.approx(min(1, len(p) * p.min()))


def test_permuted_rows_change_nothing():
    expected = results.selection_against_allocation(frame(study()))
    found = results.selection_against_allocation(frame(study()[::-1]))
    pd.testing.assert_frame_equal(found, expected)


def test_the_macs_of_both_widths_are_shown():
    rows = cells({"output_l1": [0.5, 0.6], "taylor": [0.8, 0.9]}, scope="global", macs=9_000)
    rows += cells({"taylor": [0.7, 0.7]}, macs=200, **LENT)
    row = effects(rows).loc[("allocation", "taylor")]
    assert (row["macs_ratio"], row["macs_ratio_reference"]) == (
        pytest.approx(0.9),
        pytest.approx(0.02),
    )
    assert row["detectable_points"] > row["deviation_points"] > 0
