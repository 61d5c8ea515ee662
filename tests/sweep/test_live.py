"""What TensorBoard and MLflow show of a sweep is what its results say."""

import struct
import sys
import threading
from pathlib import Path

import pandas as pd
import pytest
import yaml

import results

pytest.importorskip("mlflow", reason="needs prune-sweep[mlflow]")

CHANGES = {
    "recipe.epochs": 3,
    "finetune.epochs": 2,
    "metrics": ["output_l1"],
    "scopes": ["local"],
    "resources": {"gpus": 0},
}
CURVES = ["loss", "accuracy"]
IDENTITY = ["dataset", "seed", "metric", "scope", "budget", "normalisation", "ratio"]


@pytest.fixture(scope="module")
def finished(content, start, tmp_path_factory) -> Path:
    """A results folder of a baseline and two cells, with TensorBoard's and MLflow's logs."""
    folder = tmp_path_factory.mktemp("live")
    path = folder / "small.yaml"
    path.write_text(yaml.safe_dump(content({**CHANGES, "loggers": ["tensorboard", "mlflow"]})))
    process = start("run", path, "--out", folder / "runs")
    out, errors = process.communicate()
    assert process.returncode == 0, out + errors
    assert f"live: tensorboard, mlflow; files on this machine are in {folder}/runs/live" in out
    assert errors == ""
    return folder / "runs"


@pytest.fixture(scope="module")
def cells(finished) -> pd.DataFrame:
    return results.load(finished)


def expected(finished: Path) -> dict[str, pd.DataFrame]:
    """The curves of the results, by the first letters of the task's key."""
    history = results.load_history(finished)
    keys = history["key"].fillna(history["baseline_key"]).str[:8]
    return {str(key): rows for key, rows in history.groupby(keys)}


def scalars(folder: Path) -> dict[str, dict[int, float]]:
    """Scalars of TensorBoard's files in a folder, by tag and step."""
    from tensorboardX.proto.event_pb2 import Event

    found: dict[str, dict[int, float]] = {}
    for path in folder.iterdir():
        content, at = path.read_bytes(), 0
        while at < len(content):
            # A record is its length, a checksum of that, the event, and a checksum of it.
            (length,) = struct.unpack_from("<Q", content, at)
            event = Event.FromString(content[at + 12 : at + 12 + length])
            for value in event.summary.value:
                if not value.metadata.plugin_data.plugin_name:
                    found.setdefault(value.tag, {})[event.step] = value.simple_value
            at += 12 + length + 4
    return found


def test_tensorboard_shows_the_curves_and_the_final_figures(finished, cells):
    curves = expected(finished)
    folders = {path.name: path for path in (finished / "live" / "tensorboard").iterdir()}
    assert {name.rsplit("-", 1)[1] for name in folders} == set(curves)
    labels = {name.rsplit("-", 1)[0] for name in folders}
    assert labels == {
        "digits-seed-0-baseline",
        "digits-seed-0-output_l1-local-0.3",
        "digits-seed-0-output_l1-local-0.6",
    }
    for name, folder in folders.items():
        found, rows = scalars(folder), curves[name.rsplit("-", 1)[1]]
        for curve in CURVES:
            shown = found[f"ray/tune/{rows['stage'].iloc[0]}/{curve}"]
            assert shown == pytest.approx(dict(zip(rows["epoch"], rows[curve], strict=True)))
    for _, cell in cells.iterrows():
        (folder,) = (path for name, path in folders.items() if name.endswith(cell["key"][:8]))
        found = scalars(folder)
        for column in ("pruned_test_loss", "finetuned_test_top1", "parameters"):
            assert found[f"ray/tune/{column}"] == pytest.approx({2: cell[column]})


def test_mlflow_has_a_run_for_each_with_its_identity_as_parameters(finished, cells, monkeypatch):
    from mlflow.tracking import MlflowClient

    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    client = MlflowClient(tracking_uri=(finished / "live" / "mlflow").as_uri())
    experiment = client.get_experiment_by_name("small")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    curves = expected(finished)
    assert {run.info.run_name.rsplit("-", 1)[1] for run in runs} == set(curves)
    for run in runs:
        assert run.info.status == "FINISHED"
        rows = curves[run.info.run_name.rsplit("-", 1)[1]]
        for curve in CURVES:
            name = f"{rows['stage'].iloc[0]}/{curve}"
            shown = {m.step: m.value for m in client.get_metric_history(run.info.run_id, name)}
            assert shown == dict(zip(rows["epoch"], rows[curve], strict=True))
    by_key = {run.data.params["task"].removeprefix("cell-"): run.data for run in runs}
    for _, cell in cells.iterrows():
        run = by_key[cell["key"]]
        assert {name: run.params[name] for name in IDENTITY} == {
            name: str(cell[name]) for name in IDENTITY
        }
        assert run.metrics["finetuned_test_top1"] == cell["finetuned_test_top1"]


def test_loggers_change_no_figure(finished, cells, write_spec, invoke, tmp_path):
    done = invoke("run", write_spec(CHANGES), "--out", tmp_path / "runs", "--executor", "serial")
    assert done.exit_code == 0, done.output
    plain = results.load(tmp_path / "runs")
    where = [*plain.filter(regex="seconds|latency"), "started_at", "finished_at", "sweep"]
    pd.testing.assert_frame_equal(plain.drop(columns=where), cells.drop(columns=where))
    pd.testing.assert_frame_equal(
        results.load_history(tmp_path / "runs"), results.load_history(finished)
    )


def test_a_logger_that_is_not_installed_is_told_before_anything_runs(
    write_spec, invoke, tmp_path, monkeypatch
):
    monkeypatch.setitem(sys.modules, "mlflow", None)  # as if it were not installed
    folder = tmp_path / "runs"
    done = invoke("run", write_spec({"loggers": ["tensorboard", "mlflow"]}), "--out", folder)
    assert done.exit_code == 2
    assert "pip install 'prune-sweep[mlflow]'" in done.stderr
    assert not folder.exists()


def test_a_server_that_cannot_be_used_is_told_by_its_variable(tmp_path, monkeypatch):
    from sweep.execution.tune.loggers import LoggerError, make

    monkeypatch.setenv("MLFLOW_TRACKING_URI", "nowhere://at.all")
    with pytest.raises(LoggerError, match=r"nowhere://at.all \(MLFLOW_TRACKING_URI"):
        make("mlflow", "small", tmp_path)


def test_without_credentials_for_wandb_nothing_runs(tmp_path, monkeypatch):
    pytest.importorskip("wandb", reason="needs prune-sweep[wandb]")
    from sweep.execution.tune.loggers import LoggerError, make

    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with pytest.raises(LoggerError, match="WANDB_API_KEY, `wandb login`, or WANDB_MODE=offline"):
        make("wandb", "small", tmp_path)


def test_results_in_a_store_have_their_logs_on_this_machine(tmp_path, monkeypatch):
    from sweep.execution.tune.loggers import folder_of

    monkeypatch.chdir(tmp_path)
    assert folder_of("s3://bucket/runs/mine", "mine") == tmp_path / "runs" / "mine" / "live"
    assert folder_of(tmp_path / "out", "mine") == tmp_path / "out" / "live"


def test_a_logger_that_fails_is_told_once_and_the_others_go_on():
    from ray.tune.logger import LoggerCallback

    from sweep.execution.tune.live import Recorder

    class Broken(LoggerCallback):
        def log_trial_start(self, trial: object) -> None:
            raise ConnectionError("no route to host")

    class Counting(LoggerCallback):
        started = 0

        def log_trial_start(self, trial: object) -> None:
            self.started += 1

    told: list[str] = []
    counting = Counting()
    recorders = [Recorder("mlflow", Broken(), told.append), Recorder("x", counting, told.append)]
    for _ in range(3):
        for recorder in recorders:
            recorder.call("log_trial_start", None)
    for recorder in recorders:
        recorder.close(60)
    assert told == ["mlflow failed and is turned off; the sweep continues: no route to host"]
    assert counting.started == 3


def test_a_logger_that_hangs_is_not_waited_for():
    from ray.tune.logger import LoggerCallback

    from sweep.execution.tune.live import Recorder

    release = threading.Event()

    class Hanging(LoggerCallback):
        def log_trial_start(self, trial: object) -> None:
            release.wait()

    told: list[str] = []
    recorder = Recorder("mlflow", Hanging(), told.append)
    recorder.call("log_trial_start", None)
    recorder.close(0.01)
    release.set()
    assert told == ["mlflow took too long; it does not show all figures of this run"]
