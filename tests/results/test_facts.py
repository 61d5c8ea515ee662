"""What the report says of data sets."""

import pandas as pd
import pytest
from known_cells import cell, cells, frame

from results.report import facts

COUNTS = {
    "images_skipped": 0,
    "train_duplicates": 0,
    "validation_duplicates": 0,
    "test_duplicates": 0,
    "test_duplicates_other_label": 0,
}


def below(**counts: int | None) -> str:
    """The small words below the name of a data set."""
    row = {"dataset": "pets", "source": "folder:pets", "dataset_fingerprint": "0123456789abcdef"}
    images = {"classes": 3, "train_images": 90, "validation_images": 10, "test_images": 30}
    (line,) = facts.datasets(pd.DataFrame([row | images | COUNTS | counts])).rows
    return line[0].below


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        ({}, ""),
        (dict.fromkeys(COUNTS), ""),  # a row of an earlier version
        ({"images_skipped": 2}, "2 cannot be read and are left out"),
        ({"test_duplicates": 7}, "7 test images are training images, too"),
        (
            {"train_duplicates": 1_200, "test_duplicates": 7, "test_duplicates_other_label": 3},
            "1,200 training images repeat another; 7 test images are training images, too, 3 of "
            "them with another label",
        ),
    ],
)
def test_odd_images_are_said_below_their_data_set(counts, words):
    assert below(**counts) == words


def test_a_data_set_of_rows_with_and_without_counts_is_listed_once():
    counted = {**COUNTS, "images_skipped": 2}
    rows = [cell(seed=0, **dict.fromkeys(COUNTS)), cell(seed=1, **counted)]
    for told in (rows, rows[::-1]):
        (line,) = facts.datasets(frame(told)).rows
        assert line[0].below == "2 cannot be read and are left out"
    other = cell(seed=2, **COUNTS, dataset="pets")
    assert len(facts.datasets(frame([*rows, other])).rows) == 2


def test_a_seed_that_was_trained_twice_is_one_of_the_unpruned_networks():
    rows = [
        *cells({"a": [0.5, 0.6]}, ratio=0.3, baseline_test_top1=0.8),
        *cells({"a": [0.5, 0.6]}, ratio=0.5, baseline_test_top1=0.9, baseline_checksum="another"),
    ]
    (line,) = facts.baselines(frame(rows)).rows
    assert [entry.text for entry in line][5:7] == ["2", "85.00"]


def test_the_training_time_is_the_mean_of_the_networks_not_of_the_cells():
    rows = [
        *cells({"a": [0.5], "b": [0.5], "c": [0.5]}, seconds_baseline=600),
        cell("a", seed=1, seconds_baseline=6_000),
        cell("b", seed=1, seconds_baseline=None),
    ]
    (line,) = facts.baselines(frame(rows)).rows
    assert line[-1].text == "55 min 0 s"
