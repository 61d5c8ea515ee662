"""Mean ranks, Friedman's test and Nemenyi's critical difference, against Demsar 2006 and scipy."""

import numpy as np
import pandas as pd
import pytest
from known_cells import cell, cells, failed, frame
from scipy import stats

import results
from results.analysis.ranking import nemenyi_distance

# Demsar 2006, table 5 (a): critical values of the two-tailed Nemenyi test at 0.05.
Q = {2: 1.960, 3: 2.343, 4: 2.569, 5: 2.728, 6: 2.850, 7: 2.949, 8: 3.031, 9: 3.102, 10: 3.164}

# The ranks of table 6 there: four classifiers on 14 data sets.
RANKS = [
    (4, 3, 2, 1),
    (1, 2, 3, 4),
    (4, 1, 2, 3),
    (4, 1, 3, 2),
    (4, 2, 3, 1),
    (1, 2.5, 4, 2.5),
    (3, 2, 4, 1),
    (2.5, 2.5, 4, 1),
    (4, 3, 2, 1),
    (2.5, 2.5, 2.5, 2.5),
    (4, 2.5, 1, 2.5),
    (3, 2, 4, 1),
    (4, 1, 2, 3),
    (3, 1, 4, 2),
]


@pytest.mark.parametrize(("metrics", "q"), Q.items())
def test_critical_differences_agree_with_the_published_table(metrics, q):
    for blocks in (5, 14):
        expected = q * np.sqrt(metrics * (metrics + 1) / (6 * blocks))
        assert nemenyi_distance(metrics, blocks) == pytest.approx(expected, rel=4e-4)


def demsar():
    names = ["a", "b", "c", "d"]
    return [
        cell(names[at], 0, 1 - rank / 10, dataset=f"data {number}")
        for number, ranks in enumerate(RANKS)
        for at, rank in enumerate(ranks)
    ]


@pytest.mark.parametrize("blocks", ["baseline", "dataset"])
def test_the_published_example_has_its_ranks_and_distance(blocks):
    table = results.rank_metrics(frame(demsar()), blocks=blocks).set_index("metric")
    ranks = table["mean_rank"].round(3).to_dict()
    assert ranks == {"d": 1.964, "b": 2.0, "c": 2.893, "a": 3.143}
    assert list(table.index) == ["d", "b", "c", "a"]
    assert table["critical_difference"].round(2).unique() == [1.25]
    assert (table["blocks"].unique(), table["datasets"].unique()) == ([14], [14])
    # The published value, 9.28, is without the correction for ties.
    of_ranks = 12 * 14 / (4 * 5) * (sum(table["mean_rank"] ** 2) - 4 * 5**2 / 4)
    assert of_ranks == pytest.approx(9.28, abs=0.01)
    ties = sum(
        count**3 - count for ranks in RANKS for count in np.unique(ranks, return_counts=1)[1]
    )
    corrected = of_ranks / (1 - ties / (14 * 4 * (4**2 - 1)))
    assert table["friedman"].unique() == pytest.approx([corrected])
    assert table["p"].unique() == pytest.approx([stats.chi2.sf(corrected, 3)])


def test_friedman_agrees_with_scipy():
    values = np.random.default_rng(0).random((5, 6))
    rows = cells({f"m{at}": row for at, row in enumerate(values)})
    table = results.rank_metrics(frame(rows))
    statistic, p = stats.friedmanchisquare(*values)
    assert table["friedman"].unique() == pytest.approx([statistic])
    assert table["p"].unique() == pytest.approx([p])
    assert table["blocks"].unique() == [6]


def test_ratios_are_averaged_before_ranking_and_do_not_count_as_blocks():
    # a is better at two of three ratios, but b is better on average.
    rows = []
    for ratio, one, other in ((0.1, 0.51, 0.5), (0.2, 0.61, 0.6), (0.3, 0.1, 0.9)):
        rows += cells({"a": [one] * 2, "b": [other] * 2, "c": [0, 0.1]}, ratio=ratio)
    table = results.rank_metrics(frame(rows)).set_index("metric")
    assert table["mean_rank"].to_dict() == {"b": 1, "a": 2, "c": 3}
    assert table["blocks"].unique() == [2]
    assert table.loc["b", "accuracy"] == pytest.approx(2 / 3)


@pytest.mark.parametrize("gone", ["absent", "failed"])
def test_baselines_that_lack_a_cell_are_dropped_and_counted(gone):
    rows = []
    for ratio in (0.3, 0.6):
        rows += cells({"a": [0.9, 0.8, 0.7], "b": [0.5] * 3, "c": [0.1] * 3}, ratio=ratio)
    lacking = next(row for row in rows if row["metric"] == "c" and row["seed"] == 1)
    rows.remove(lacking)
    rows += [failed("c", 1)] if gone == "failed" else []
    table = results.rank_metrics(frame(rows))
    assert (table["blocks"].unique(), table["dropped"].unique()) == ([2], [1])
    assert table.loc[table["metric"] == "a", "accuracy"].item() == pytest.approx(0.8)


def test_data_sets_may_have_different_ratios():
    rows = cells({"a": [0.9] * 2, "b": [0.5] * 2, "c": [0.1] * 2}, dataset="svhn", ratio=0.45)
    rows += cells({"a": [0.9] * 2, "b": [0.5] * 2, "c": [0.1] * 2}, ratio=0.53)
    table = results.rank_metrics(frame(rows))
    assert (table["blocks"].unique(), table["datasets"].unique()) == ([4], [2])
    by_dataset = results.rank_metrics(frame(rows), blocks="dataset")
    assert by_dataset["blocks"].unique() == [2]


def test_scopes_budgets_normalisations_and_fine_tunings_are_ranked_separately():
    values = {"a": [0.9, 0.8], "b": [0.5, 0.4], "c": [0.1, 0.2]}
    upside_down = {"a": [0.1, 0.2], "b": [0.5, 0.4], "c": [0.9, 0.8]}
    rows = cells(values)
    for changes in (
        {"budget": "uniform_channels"},
        {"scope": "global"},
        {"scope": "global", "normalisation": "layer_mean"},
        {"finetune_epochs": 9},
        {"min_channels": 4},
    ):
        rows += cells(upside_down, **changes)
    table = results.rank_metrics(frame(rows))
    assert len(table) == 6 * 3
    assert (table["blocks"] == 2).all()
    first = table[table["mean_rank"] == 1]["metric"].value_counts().to_dict()
    assert first == {"c": 5, "a": 1}


def test_equal_accuracies_share_a_rank_in_spite_of_rounding():
    # Both have the mean 0.465, up to a rounding error.
    rows = []
    for ratio, one, other in ((0.1, 0.28, 0.18), (0.2, 0.65, 0.75)):
        rows += cells({"a": [one] * 2, "b": [other] * 2, "c": [0, 0]}, ratio=ratio)
    table = results.rank_metrics(frame(rows)).set_index("metric")
    assert table["mean_rank"].to_dict() == {"a": 1.5, "b": 1.5, "c": 3}


@pytest.mark.parametrize(
    ("values", "note"),
    [
        ({"a": [0.5, 0.6], "b": [0.4, 0.5]}, "2 metrics: a ranking needs 3"),
        ({"a": [0.5], "b": [0.4], "c": [0.3]}, "one block: .*"),
        ({"a": [0.5, 0.5], "b": [0.5, 0.5], "c": [0.5, 0.5]}, "all metrics are equal .*"),
        ({"a": [0.5, None], "b": [None, 0.5], "c": [0.5, 0.5]}, "no baseline has all 3 .*"),
    ],
)
def test_too_little_data_gives_a_note_instead_of_a_test(values, note):
    table = results.rank_metrics(frame(cells(values)))
    assert table["note"].str.fullmatch(note).all()
    assert table[["friedman", "p", "critical_difference"]].isna().all(axis=None)
    assert sorted(table["metric"]) == sorted(values)


def test_a_metric_whose_cells_all_failed_is_still_listed():
    rows = cells({"a": [0.5, 0.6], "b": [0.4, 0.5], "c": [0.3, 0.2]})
    table = results.rank_metrics(frame([*rows, failed("d", 0), failed("d", 1)]))
    assert set(table["metric"]) == {"a", "b", "c", "d"}
    assert (table["blocks"].unique(), table["dropped"].unique()) == ([0], [2])


def test_chosen_metrics_are_ranked_alone():
    rows = cells({"a": [0.9, 0.8], "b": [0.5, 0.4], "c": [0.1, 0.2], "rare": [0.7, None]})
    table = results.rank_metrics(frame(rows), ["a", "b", "c"])
    assert (table["blocks"].unique(), table["dropped"].unique()) == ([2], [0])
    with pytest.raises(ValueError, match=r"metrics is 'a'; give a list, such as \['a'\]"):
        results.rank_metrics(frame(rows), "a")
    with pytest.raises(ValueError, match="no cell of metric 'd'"):
        results.rank_metrics(frame(rows), ["a", "d"])
    with pytest.raises(ValueError, match="allowed: baseline, dataset"):
        results.rank_metrics(frame(rows), blocks="seed")


def test_networks_from_scratch_are_not_ranked():
    rows = cells({"a": [0.9, 0.8], "b": [0.5, 0.4], "c": [0.1, 0.2], "scratch": [1.0, 1.0]})
    assert "scratch" not in set(results.rank_metrics(frame(rows))["metric"])


def test_permuted_rows_change_nothing():
    chance = np.random.default_rng(2)
    rows = cells({f"m{at}": chance.random(4) for at in range(4)})
    expected = results.rank_metrics(frame(rows))
    pd.testing.assert_frame_equal(results.rank_metrics(frame(rows[::-1])), expected)


def test_the_macs_that_are_left_are_shown_beside_the_ranks():
    rows = []
    for ratio, macs in ((0.3, 2_000), (0.6, 4_000)):
        rows += cells({"a": [0.5, 0.6]}, ratio=ratio, macs=macs)
        rows += cells({"b": [0.4, 0.7]}, ratio=ratio, macs=9_000)
    # A baseline that is left out does not count.
    rows += [cell("a", 2, macs=10), failed("b", 2)]
    table = results.rank_metrics(frame(rows)).set_index("metric")
    assert table["macs_ratio"].round(9).to_dict() == {"a": 0.3, "b": 0.9}


def test_networks_of_one_data_set_are_blocks_but_never_one_block():
    values = {"a": [0.9, 0.8], "b": [0.5, 0.4], "c": [0.1, 0.2]}
    table = frame(cells(values) + cells(values, network_options='{"shortcut": "B"}'))
    assert results.rank_metrics(table)["blocks"].unique() == [4]
    with pytest.raises(ValueError, match=r"digits are of several studies: network_options is \{\}"):
        results.rank_metrics(table, blocks="dataset")


def test_a_seed_that_was_trained_twice_is_one_block():
    values = {"a": [0.9, 0.8, 0.7], "b": [0.6, 0.55, 0.5], "c": [0.5, 0.4, 0.45]}
    once = [row for ratio in (0.3, 0.5) for row in cells(values, ratio=ratio)]
    # The second part of the grid ran on a machine that trained its networks itself.
    twice = [
        row | {"baseline_checksum": f"{row['seed']} at {row['ratio']}"}
        if row["ratio"] > 0.4
        else row
        for row in once
    ]
    pd.testing.assert_frame_equal(
        results.rank_metrics(frame(twice)), results.rank_metrics(frame(once))
    )
    # Where metrics prune different networks, their ranks say nothing.
    mixed = [
        row | {"baseline_checksum": "another"} if (row["metric"], row["seed"]) == ("a", 0) else row
        for row in once
    ]
    table = results.rank_metrics(frame(mixed))
    assert (set(table["blocks"]), set(table["dropped"])) == ({2}, {1})
