"""What a row says of the training, the control and the time of a cell, by real small sweeps."""

import json

import pandas as pd
import pytest
import torch

import results
from prune_core.seeds import derive
from prune_core.surgery import prune
from prune_core.training import recalibrate, train
from sweep.planning.grid import plan
from sweep.stages.artifacts import Artifacts
from sweep.stages.baseline import evaluated
from sweep.stages.data import split_of

CHANGES = {
    "seeds": [0, 1],
    "metrics": ["output_l1", "entropy_gaussian", "mutual_information", "taylor"],
    "ratios": [0.5],
    "scopes": ["local"],
    "finetune.images": 128,
    "controls": {"scratch": True},
}


@pytest.fixture(scope="module")
def folder(run_digits, tmp_path_factory):
    """The results of a small sweep with both controls."""
    folder = tmp_path_factory.mktemp("cells") / "runs"
    done = run_digits(folder, CHANGES)
    assert done.exit_code == 0, done.output
    return folder


@pytest.fixture(scope="module")
def frame(folder):
    return results.load(folder)


def test_an_identity_holds_the_whole_baseline_as_values(frame):
    for row in frame.to_dict("records"):
        identity = json.loads(row["identity"])
        assert identity["baseline"]["seed"] == row["seed"]
        assert identity["baseline"]["recipe"]["learning_rate"] == 0.1
        assert identity["baseline"]["dataset"]["fingerprint"] == row["dataset_fingerprint"]
        assert set(identity["baseline"]["version"]) == {"evaluation", "preprocessing", "training"}
        assert identity["finetune"]["images"] == 128 or row["metric"] == "scratch"
    values = results.identities(frame)
    assert set(values["baseline.seed"]) == {0, 1}
    assert set(values["baseline.recipe.learning_rate"]) == {0.1}


def test_rows_of_one_baseline_have_the_checksum_of_its_weights(frame, folder):
    sums = frame.groupby("baseline_key")["baseline_checksum"].unique()
    assert [len(found) for found in sums] == [1, 1]
    assert sums.iloc[0][0] != sums.iloc[1][0]
    for key, (checksum,) in sums.items():
        trained = Artifacts(folder / "artifacts").baseline(key)
        assert trained.weights_checksum == checksum
        with torch.no_grad():
            trained.net.classifier.bias[0] += 1
        del trained.__dict__["weights_checksum"]
        assert trained.weights_checksum != checksum


def test_the_unpruned_control_is_the_baseline_after_fine_tuning(frame, folder, spec):
    (cell,) = [one for one in plan(spec(CHANGES)).cells if one.unpruned and not one.baseline.seed]
    (row,) = frame[frame["key"] == cell.key].to_dict("records")
    assert (row["metric"], row["scope"], row["budget"]) == ("unpruned",) * 3
    assert (row["ratio"], row["parameter_ratio"], row["collapsed"]) == (1, 1, False)
    assert row["macs"] == row["macs_full"]
    assert pd.isna(row["pruned_test_top1"])
    assert pd.isna(row["scores_key"])
    trained = Artifacts(folder / "artifacts").baseline(cell.baseline.key)
    split = split_of(cell.baseline.dataset)
    order = derive(0, "finetune")
    train(trained.net, split.train, trained.preprocessing, cell.finetune, order, False)
    _, test = evaluated(trained.net, split, trained.preprocessing)
    assert (row["finetuned_test_top1"], row["finetuned_test_loss"]) == (test.top1, test.loss)


def test_the_pruned_network_is_recalibrated_on_images_as_the_baseline_was_trained(
    frame, folder, spec
):
    cell = next(one for one in plan(spec(CHANGES)).cells if one.metric == "output_l1")
    (row,) = frame[frame["key"] == cell.key].to_dict("records")
    told = results.load_channels(folder, filters=[("key", "==", cell.key)])
    channels = [
        torch.tensor(rows["channel"].tolist()) for _, rows in told[told["kept"]].groupby("layer")
    ]
    trained = Artifacts(folder / "artifacts").baseline(cell.baseline.key)
    net, split = prune(trained.net, channels), split_of(cell.baseline.dataset)
    assert cell.baseline.recipe.crop_padding == 4
    recipe, seed = cell.baseline.recipe, derive(0, "recalibrated")
    recalibrate(net, split.train, trained.preprocessing, recipe, seed, False)
    _, test = evaluated(net, split, trained.preprocessing)
    assert row["recalibrated_test_loss"] == test.loss


def test_times_say_who_shared_them(frame):
    rows = frame[frame["seed"] == 0].set_index("metric")
    seconds, shared = rows["seconds_statistics"], rows["seconds_statistics_shared_by"]
    # One collection answers all three metrics.
    assert shared["entropy_gaussian"] == shared["mutual_information"] == shared["taylor"] == 3
    assert seconds["entropy_gaussian"] == seconds["taylor"] > 0
    assert rows["seconds_scoring"][["output_l1", "taylor"]].min() > 0
    for name in ("output_l1", "scratch", "unpruned"):
        assert pd.isna(seconds[name])
        assert pd.isna(shared[name])
    assert rows["seconds_scoring"][["scratch", "unpruned"]].isna().all()


def test_the_images_of_an_epoch_are_in_the_row(frame):
    pruned = frame[frame["metric"] != "scratch"]
    scratch = frame[frame["metric"] == "scratch"]
    whole = frame["train_images"].iloc[0]
    assert set(pruned["finetune_images"]) == {128}
    assert set(scratch["finetune_images"]) == set(frame["baseline_images"]) == {whole}
