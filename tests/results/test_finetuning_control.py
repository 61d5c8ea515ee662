"""What fine-tuning alone does to the unpruned network."""

import numpy as np
import pytest
from known_cells import cells, failed, frame, unpruned
from scipy import stats

import results
from results.analysis.finetuning_control import studies_without_control
from results.analysis.study import TRAINED_STUDY

AFTER = (0.77, 0.78, 0.76)


def control(**changes):
    return [unpruned(seed, 0.82, after, **changes) for seed, after in enumerate(AFTER)]


def only(table):
    (row,) = table.to_dict("records")
    return row


def test_the_difference_is_that_of_the_unpruned_network_alone():
    rows = [*control(), *cells({"output_l1": [0.1, 0.2, 0.3]})]
    found = only(results.finetuning_control(frame(rows)))
    test = stats.ttest_1samp(100 * (np.array(AFTER) - 0.82), 0)
    low, high = test.confidence_interval(0.95)
    assert found["difference_points"] == pytest.approx(-5)
    assert (found["low_points"], found["high_points"]) == (pytest.approx(low), pytest.approx(high))
    assert found["p"] == found["p_holm"] == pytest.approx(test.pvalue)
    assert (found["accuracy"], found["accuracy_reference"]) == (
        pytest.approx(0.77),
        pytest.approx(0.82),
    )
    assert (found["seeds"], found["unpaired"], found["note"]) == (3, 0, "")


def test_each_training_has_its_row_and_floors_do_not_count():
    rows = control() + control(finetune_epochs=1) + control(dataset="svhn")
    rows += cells({"output_l1": [0.5] * 3}, min_channels=8)
    table = results.finetuning_control(frame(rows))
    assert len(table) == 3
    assert list(table.columns[: len(TRAINED_STUDY)]) == list(TRAINED_STUDY)
    assert (table["seeds"] == 3).all()


def test_cells_of_every_compensation_share_the_control():
    rows = [*control(), *cells({"output_l1": [0.1, 0.2, 0.3]}, compensation="least_squares")]
    both = rows + cells({"output_l1": [0.1, 0.2, 0.3]}, compensation="none")
    for found in (rows, both):
        assert only(results.finetuning_control(frame(found)))["seeds"] == 3
        assert studies_without_control(frame(found)) == (0, 1)


@pytest.mark.parametrize("changes", [{"groups": "inner"}, {"combine": "max"}], ids=str)
@pytest.mark.parametrize("shared", [True, False])
def test_sweeps_with_other_channel_groups_share_the_control(changes, shared):
    network = {"variant": "resnet20"}
    rows = control(**network) + ([] if shared else control(**network, **changes))
    rows += cells({"output_l1": [0.5] * 3}, **network)
    rows += cells({"output_l1": [0.6] * 3}, **network, **changes)
    found = only(results.finetuning_control(frame(rows)))
    assert (found["seeds"], found["unpaired"]) == (3, 0)
    assert found == only(results.finetuning_control(frame(control(**network))))
    assert studies_without_control(frame(rows)) == (0, 1)


def test_controls_that_share_a_network_count_with_their_mean():
    network = {"variant": "resnet20"}
    rows = [unpruned(seed, 0.9, 0.8 + 0.01 * seed, **network) for seed in range(3)]
    rows += [unpruned(seed, 0.9, 0.9, groups="inner", **network) for seed in range(3)]
    rows[5] |= {"status": "failed", "finetuned_test_top1": None}
    found = only(results.finetuning_control(frame(rows)))
    # Means of 0.8 and 0.9, and of 0.81 and 0.9; the last has one control.
    assert found["difference_points"] == pytest.approx((-5 - 4.5 - 8) / 3)
    assert (found["seeds"], found["unpaired"]) == (3, 0)


def test_the_control_is_in_no_other_table():
    rows = cells({"output_l1": [0.5, 0.6, 0.7], "random": [0.4, 0.5, 0.65]})
    both = frame(rows + control())
    for name in ("accuracy_table", "rank_metrics", "pareto", "claims", "at_equal_macs"):
        call = getattr(results, name)
        extra = ("random", "output_l1") if name == "at_equal_macs" else ()
        assert len(call(both, *extra)) == len(call(frame(rows), *extra)), name
    assert set(results.paired_difference(both, None, "output_l1")["metric"]) == {"random"}


def test_without_the_control_there_is_no_row():
    full, empty = frame(control()), frame(cells({"output_l1": [0.5]}))
    assert results.finetuning_control(empty).empty
    expected = list(results.finetuning_control(full).columns)
    assert list(results.finetuning_control(empty).columns) == expected
    assert list(results.finetuning_control(frame([])).columns) == expected


def test_failed_controls_are_not_paired():
    rows = [*control()[:2], failed("unpruned", 2, scope="unpruned", budget="unpruned", ratio=1.0)]
    found = only(results.finetuning_control(frame(rows)))
    assert (found["seeds"], found["unpaired"]) == (2, 1)


def test_a_control_by_another_recipe_is_refused():
    rows = control(recipe={"epochs": 2, "learning_rate": 0.5})
    rows += cells({"output_l1": [0.5]}, recipe={"epochs": 2, "learning_rate": 0.05})
    with pytest.raises(ValueError, match=r"digits .*learning_rate is 0\.5 and 0\.05"):
        results.finetuning_control(frame(rows))
    # Networks from scratch are not fine-tuned, and another study may have another recipe.
    rows = control(recipe={"epochs": 2}) + cells({"scratch": [0.5]}, recipe={"epochs": 4})
    rows += cells({"output_l1": [0.5]}, recipe={"epochs": 9}, finetune_epochs=9)
    assert len(results.finetuning_control(frame(rows))) == 1


def test_two_controls_of_one_seed_are_refused():
    with pytest.raises(ValueError, match=r"two cells of digits, the unpruned network.*seed 0"):
        results.finetuning_control(frame([unpruned(), unpruned()]))
