"""Which stages before fine-tuning are evaluated."""

import re

import pytest

import results
from results.storage.schema import STAGES_BEFORE_TRAINING

CHANGES = {
    "metrics": ["output_l1", "random"],
    "scopes": ["local"],
    "seeds": [0, 1],
    "compensations": ["none", "least_squares(images=20)"],
}


@pytest.fixture(scope="module")
def frames(run_digits, tmp_path_factory):
    """The rows and the folders of one sweep, by the stages that are evaluated."""
    found = {}
    for stages in (STAGES_BEFORE_TRAINING, ("recalibrated",), ()):
        folder = tmp_path_factory.mktemp("runs")
        done = run_digits(folder, {**CHANGES, "evaluate": list(stages)})
        assert done.exit_code == 0, done.output
        assert not re.search(r"\bnan\b", done.output)
        changed = "least_squares(images=20) changes the accuracy by"
        (line,) = [one for one in done.output.splitlines() if one.startswith(changed)]
        assert ("before fine-tuning" in line, "after it" in line) == (bool(stages), True)
        found[stages] = results.load(folder).sort_values("key", ignore_index=True), folder
    return found


@pytest.mark.parametrize("stages", [("recalibrated",), ()], ids=str)
def test_other_stages_are_missing_and_no_number_changes(stages, frames):
    (whole, _), (some, _) = frames[STAGES_BEFORE_TRAINING], frames[stages]
    accuracies = [name for name in whole if name.endswith(("_top1", "_top5", "_loss"))]
    left = [
        name
        for name in accuracies
        if name.split("_")[0] in STAGES_BEFORE_TRAINING and name.split("_")[0] not in stages
    ]
    assert len(left) == 6 * (3 - len(stages))
    assert some[left].isna().all(axis=None)
    assert whole[left].notna().any(axis=None)
    same = ["key", *(name for name in accuracies if name not in left)]
    assert some[same].equals(whole[same])
    assert (some["status"] == "ok").all()


def test_what_is_missing_is_left_out_of_tables_and_reports(frames, invoke, tmp_path):
    frame, folder = frames[()]
    assert results.accuracy_table(frame, at="pruned")["mean"].isna().all()
    assert results.accuracy_table(frame)["mean"].notna().all()
    assert results.claims(frame)["difference_points"].isna().all()
    done = invoke("report", folder, "--format", "md", "--to", tmp_path / "report.md")
    assert done.exit_code == 0, done.output
    text = (tmp_path / "report.md").read_text()
    assert not re.search(r"\bnan\b", text.lower())
    assert "without training" not in text
    assert "after fine-tuning, in the mean over 2 metrics, compensation" in text


def test_a_network_that_is_not_fine_tuned_is_evaluated_once(run_digits, tmp_path, monkeypatch):
    from sweep.stages import baseline

    asked = []
    evaluate = baseline.evaluate

    def counted(net, images, *rest):
        asked.append(len(images))
        return evaluate(net, images, *rest)

    monkeypatch.setattr(baseline, "evaluate", counted)
    changes = {"metrics": ["output_l1"], "scopes": ["local"], "ratios": [0.5]}
    done = run_digits(tmp_path / "runs", {**changes, "finetune.epochs": 0})
    assert done.exit_code == 0, done.output
    assert len(asked) == 2 * (1 + 2)  # of the baseline; after pruning and recalibration
    row = results.load(tmp_path / "runs").iloc[0]
    for of in ("top1", "top5", "loss"):
        assert row[f"finetuned_test_{of}"] == row[f"recalibrated_test_{of}"]
