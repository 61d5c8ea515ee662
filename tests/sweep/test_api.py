"""Sweeps from Python: what a person gets is what the command line gives."""

import io
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from odd_images import class_folders
from rich.console import Console

import results
import sweep
from prune_core.plugins import _LOADED
from results.storage.locations import folder_of
from results.storage.plan_file import read_plan
from results.storage.processes import this_process

QUIET = Console(quiet=True)
FEW = {"metrics": ["output_l1"], "ratios": [0.5], "scopes": ["local"], "finetune": {"epochs": 0}}


@pytest.fixture(scope="module")
def fields(content):
    """A sweep of two cells that trains for an instant."""
    return content({**FEW, "seeds": [0, 1]})


@pytest.fixture(scope="module")
def done(fields, tmp_path_factory) -> sweep.Sweep:
    """That sweep after it ran; not to be changed."""
    folder = tmp_path_factory.mktemp("api") / "runs"
    return sweep.run(fields, out=folder, executor="serial", console=QUIET)


def test_importing_it_takes_no_torch_and_no_pandas():
    code = "import sys, sweep; print(*{'torch', 'pandas', 'ray'} & set(sys.modules)); sweep.run"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == []
    assert sorted(dir(sweep)) == sorted(sweep.__all__)


def test_fields_a_file_and_a_spec_are_the_same_sweep(fields, tmp_path):
    file = tmp_path / "small.yaml"
    file.write_text(yaml.safe_dump(fields))
    of_fields = sweep.plan(fields)
    assert len(of_fields.cells) == 2
    for same in (file, str(file), of_fields.spec):
        assert sweep.plan(same).planned == of_fields.planned
    assert str(of_fields.folder) == "runs/small"
    assert not Path("runs/small").exists()


def test_a_notebook_shows_a_line_not_the_whole_identity(fields):
    planned = sweep.plan(fields)
    assert repr(planned) == "<Sweep small: 2 cells, runs/small>"
    cell = planned.cells[0]
    assert repr(cell) == f"<Cell {cell.key}: {cell.label}>"


def test_a_packaged_spec_goes_by_its_name():
    planned = sweep.plan("digits", ["ratios=[0.3]", "seeds=[0]"])
    assert planned.spec.name == "digits"
    assert {cell.ratio for cell in planned.cells} == {0.3, 1.0}


def test_overrides_leave_the_fields_as_they_are(fields):
    before = yaml.safe_dump(fields)
    changed = sweep.plan(fields, ["recipe.epochs=7", "datasets.0.train_images=200"])
    assert changed.spec.recipe.epochs == 7
    assert changed.cells[0].baseline.dataset.train_images == 180  # a tenth is held out
    assert yaml.safe_dump(fields) == before


def test_arrays_tuples_and_ranges_are_lists(fields):
    python = {**fields, "ratios": np.array([0.3, 0.5]), "seeds": range(2), "metrics": ("random",)}
    python["recipe"] = {**fields["recipe"], "epochs": np.int64(2), "learning_rate": np.float32(0.3)}
    python["datasets"] = pd.Series(["digits"])
    read = sweep.plan(python).spec
    assert (read.ratios, read.seeds) == ([0.3, 0.5], [0, 1])
    assert read.metrics[0].name == "random"
    assert (read.recipe.epochs, read.recipe.learning_rate) == (2, 0.3)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"receipe": {"epochs": 1}}, "the spec: receipe is not a field of the spec; did you mean"),
        ({"metrics": ["ouput_l1"]}, "did you mean output_l1"),
        ({"recipe": {}}, "recipe.epochs is missing"),
        ({"network": "my_net.py:build"}, "write network: {source: my_net.py:build}"),
        ({"network": "resnet20"}, "write network: {variant: resnet20}"),
    ],
)
def test_a_wrong_field_is_named(fields, changes, words):
    with pytest.raises(sweep.SpecError, match=words):
        sweep.plan({**fields, **changes})


def test_an_override_inside_a_text_shows_what_replaces_it(fields):
    with pytest.raises(sweep.SpecError, match=r"datasets.0=\{source: digits, train_images: 300\}"):
        sweep.plan({**fields, "datasets": ["digits"]}, ["datasets.0.train_images=300"])


def test_a_spec_takes_no_overrides(fields):
    with pytest.raises(sweep.SpecError, match="not a Spec"):
        sweep.plan(sweep.plan(fields).spec, ["seeds=[3]"])


@pytest.mark.parametrize(
    ("spec", "overrides", "words"),
    [
        (None, (), "a spec is a dictionary of fields, .* this one is of the type NoneType"),
        ([{"name": "mine"}], (), "of the type list"),
        ("", (), "the spec '' is a folder"),
        (FEW, [3], "overrides are texts FIELD=VALUE"),
        (FEW, {"recipe.epochs": 3}, "override 'recipe.epochs' must be FIELD=VALUE"),
    ],
)
def test_what_is_no_spec_is_refused(spec, overrides, words):
    with pytest.raises(sweep.SpecError, match=words):
        sweep.plan(spec, overrides)


def test_what_is_no_list_is_refused_and_none_is_nothing(fields, tmp_path):
    planned = sweep.plan(fields, overrides=None, plugins=None, out=tmp_path)
    run = planned.run(
        "serial", retry=None, only=planned.cells[0].key, where=None, slurm=None, console=QUIET
    )
    assert run.status().complete
    for call, words in (
        (lambda: sweep.plan(fields, 3), "3 is of the type int; give a text or a list"),
        (lambda: sweep.plan(fields, plugins=[3]), "plugins are paths of Python files"),
        (lambda: sweep.run(fields, executor="serial", retry=[3]), "--retry 3: allowed: ok"),
    ):
        with pytest.raises(sweep.SpecError, match=words):
            call()


def test_fields_that_contain_themselves_are_refused(fields):
    endless = {**fields}
    endless["recipe"] = endless
    with pytest.raises(sweep.SpecError, match="the spec: recipe contains itself"):
        sweep.plan(endless)


def test_a_single_text_needs_no_list(fields, tmp_path):
    planned = sweep.plan(fields, "seeds=[7]", out=tmp_path)
    assert planned.spec.seeds == [7]
    ran = planned.run("serial", retry="failed", only=planned.cells[0].key, console=QUIET)
    assert ran.status().complete
    with pytest.raises(sweep.UserError, match=r"there is no file nowhere\.py"):
        sweep.plan(fields, plugins="nowhere.py")
    with pytest.raises(sweep.UserError, match="--slurm is for"):
        planned.run("serial", slurm="partition=gpu", console=QUIET)


def test_relative_paths_start_where_the_sweep_was_planned(fields, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    class_folders(tmp_path / "photos/train", ["cat", "dog"], 4)
    class_folders(tmp_path / "photos/test", ["cat", "dog"], 2, 1000)
    own = {**fields, "datasets": [{"source": "folder:photos", "image_size": 16}]}
    for place, options in (("runs/small", {}), ("mine", {"out": "mine", "data": "."})):
        monkeypatch.chdir(tmp_path)
        planned = sweep.plan({**own, "seeds": [0]}, **options)
        assert str(planned.folder) == place
        (tmp_path / "elsewhere").mkdir(exist_ok=True)
        monkeypatch.chdir(tmp_path / "elsewhere")
        assert planned.run("serial", console=QUIET).status().complete
        assert len(planned.load()) == len(results.load(tmp_path / place)) == 1
        kept = (tmp_path / place / "spec.yaml").read_text().splitlines()[0]
        assert ("data" not in options) or kept.endswith(f" --data {tmp_path}")
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_results_lie_where_a_uri_says(fields, tmp_path):
    done = sweep.run(
        {**fields, "seeds": [0]},
        out=f"file://{tmp_path}/two%20words",
        executor="serial",
        console=QUIET,
    )
    assert len(done.load()) == len(results.load(tmp_path / "two words")) == 1
    with pytest.raises(sweep.SpecError, match="the results folder is an empty text"):
        sweep.plan(fields, out="")


def test_a_run_returns_its_rows(done, fields):
    status = done.status()
    assert (status.cells, status.ok, status.failed, status.left) == (2, 2, 0, 0)
    assert status.complete
    assert not status.active
    frame = done.load()
    pd.testing.assert_frame_equal(frame, results.load(done.folder))
    assert set(frame["key"]) == {cell.key for cell in done.cells}
    again = sweep.run(fields, out=done.folder, executor="serial", console=QUIET)
    pd.testing.assert_frame_equal(again.load(), frame)


def test_the_command_and_the_function_make_the_same_rows(done, fields, invoke, tmp_path):
    file, folder = tmp_path / "small.yaml", tmp_path / "runs"
    file.write_text(yaml.safe_dump(fields))
    assert invoke("run", file, "--out", folder, "--executor", "serial").exit_code == 0
    columns = ["key", "status", "baseline_test_top1", "finetuned_test_top1", "parameters"]
    pd.testing.assert_frame_equal(results.load(folder)[columns], done.load()[columns])


def test_before_a_run_all_is_left(fields, tmp_path):
    planned = sweep.plan(fields, out=tmp_path / "new")
    assert planned.status() == sweep.Status("small", cells=2, ok=0, not_ok={})
    assert planned.status().left == 2
    assert not (tmp_path / "new").exists()
    with pytest.raises(results.StoreError, match="there is no results folder"):
        planned.load()


def test_only_its_own_cells_count(done, fields):
    one = sweep.plan({**fields, "seeds": [1, 2]}, out=done.folder)
    assert (one.status().ok, one.status().left) == (1, 1)
    assert one.load()["seed"].tolist() == [1]


def test_a_frame_has_the_names_of_this_spec(done, fields):
    renamed = {**fields, "datasets": [{**fields["datasets"][0], "name": "numbers"}]}
    frame = sweep.plan(renamed, out=done.folder).load()
    assert frame["dataset"].tolist() == ["numbers"] * 2
    assert frame.dtypes.equals(done.load().dtypes)


def test_one_cell_of_many(fields, tmp_path):
    key = sweep.plan(fields).cells[1].key
    run = sweep.run(fields, out=tmp_path, executor="serial", only=[key[:8]], console=QUIET)
    assert run.status().complete
    assert run.load()["key"].tolist() == [key]
    assert sweep.plan(fields, out=tmp_path).status().left == 1


def test_a_study_in_parts_is_the_study_that_was_planned(fields, tmp_path):
    named = {"metric": fields["metrics"][0], "reference": "random", "ratio": 0.5, "scope": "global"}
    whole = {**fields, "metrics": [fields["metrics"][0], "random"], "ratios": [0.3, 0.5]}
    whole |= {"scopes": ["local", "global"], "comparisons": [named]}
    where = {"ratio": 0.3, "scope": ["local"]}
    part = sweep.run(whole, out=tmp_path, executor="serial", where=where, console=QUIET)
    assert part.status().complete
    assert part.load()[["ratio", "scope"]].drop_duplicates().to_numpy().tolist() == [[0.3, "local"]]
    # A comparison of cells that do not run yet was still named in advance.
    (kept,) = read_plan(folder_of(tmp_path)).comparisons
    assert (kept.ratio, kept.in_advance) == (0.5, True)
    planned = sweep.plan(whole, out=tmp_path)
    assert (planned.status().ok, planned.status().left) == (len(part.cells), 3 * len(part.cells))
    assert planned.run("serial", console=QUIET).status().complete
    assert read_plan(folder_of(tmp_path)).comparisons == (kept,)


def test_failed_cells_are_told_and_run_again(fields, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("sweep.execution.run_task.cell", lambda *_: 1 / 0)
        failed = sweep.run(fields, out=tmp_path, executor="serial", console=QUIET)
    assert failed.status().not_ok == {"failed": 2}
    assert not failed.status().complete
    again = failed.run("serial", retry=["failed"], console=QUIET)
    assert again.status().complete


def test_a_run_under_way_is_seen(fields, tmp_path):
    planned = sweep.plan(fields, out=tmp_path)
    record = {"active": True, **this_process(), "running": ["a cell"], "seconds_left": 60}
    (tmp_path / "progress.json").write_text(json.dumps(record))
    status = planned.status()
    assert (status.active, status.running, status.seconds_left) == (True, ("a cell",), 60)


def test_progress_goes_where_it_is_sent(fields, tmp_path, capsys):
    on = io.StringIO()
    sweep.run(fields, out=tmp_path, executor="serial", console=Console(file=on))
    assert "2 cells, 0 done before, 2 to run" in on.getvalue()
    assert capsys.readouterr().out == ""
    sweep.run(fields, out=tmp_path, executor="serial")
    assert "2 cells, 2 done before, 0 to run" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"executor": "cereal"}, "cereal is unknown; allowed: ray, serial"),
        ({"executor": "serial", "retry": ["lost"]}, "lost"),
        ({"executor": "serial", "slurm": {"partition": "gpu"}}, "is for --executor slurm"),
        ({"executor": "ray", "debugger": True}, "cannot be used with --executor ray"),
        ({"executor": "serial", "only": ["zzzz"]}, "matches none of the 2 cells"),
    ],
)
def test_what_cannot_be_run_is_refused_before_anything_is_written(fields, tmp_path, options, words):
    with pytest.raises(sweep.UserError, match=words):
        sweep.run(fields, out=tmp_path / "new", console=QUIET, **options)
    assert not (tmp_path / "new").exists()


METRIC = (
    "import prune_core as pc\n\n\n@pc.metric(source='a test')\ndef of_the_api(layer):\n"
    '    """Of the weights."""\n    return layer.weight.abs().{}(dim=(1, 2, 3))\n'
)


@pytest.fixture
def plugin(tmp_path):
    """A file with a metric, taken out of the registries after the test."""
    file = tmp_path / "api_metrics.py"
    file.write_text(METRIC.format("amax"))
    yield file
    for one in [one for one in _LOADED.values() if one.path == str(file)]:
        one.unload()


def test_plug_ins_are_files(fields, plugin):
    planned = sweep.plan({**fields, "metrics": ["of_the_api"]}, plugins=[plugin])
    assert {cell.metric for cell in planned.cells} == {"of_the_api"}
    assert [str(one.path) for one in planned.spec.plugins] == [str(plugin)]
    assert sweep.plan(planned.spec).planned == planned.planned


def _largest(folder: Path) -> float:
    return float(results.load_scores(folder)["score"].max())


def test_a_sweep_keeps_the_version_of_a_plug_in_that_it_was_planned_with(fields, plugin, tmp_path):
    own = {**fields, "metrics": ["of_the_api"], "seeds": [0]}
    first = sweep.plan(own, plugins=plugin, out=tmp_path / "first")
    plugin.write_text(METRIC.format("sum"))
    second = sweep.plan(own, plugins=plugin, out=tmp_path / "second")
    # A Spec has the versions of its plug-ins, whatever is registered now.
    again = sweep.plan(first.spec, out=tmp_path / "again")
    keys = [planned.cells[0].key for planned in (first, second, again)]
    assert keys[0] == keys[2] != keys[1]
    plugin.write_text(METRIC.format("sum").replace("of_the_api", "renamed"))
    sweep.plan({**own, "metrics": ["renamed"]}, plugins=plugin)
    for planned in (first, second, again):
        assert planned.run("serial", console=QUIET).load()["metric"].tolist() == ["of_the_api"]
    largest = [_largest(tmp_path / name) for name in ("first", "second", "again")]
    assert largest[0] == largest[2] < largest[1]


def test_no_other_version_of_a_plug_in_comes_between_a_run(fields, plugin, tmp_path):
    own = {**fields, "metrics": ["of_the_api"], "seeds": [0]}

    class Changing(Console):
        """Changes the file when the run prints its first line, as another thread may."""

        def print(self, *objects, **options):
            plugin.write_text(METRIC.format("sum"))
            with pytest.raises(sweep.UserError, match=r"another version .* wait until the run"):
                sweep.plan(own, plugins=plugin)
            changed.append(True)

    changed = []
    planned = sweep.plan(own, plugins=plugin, out=tmp_path / "runs")
    assert planned.run("serial", console=Changing(file=io.StringIO())).status().complete
    assert changed
    assert sweep.plan(own, plugins=plugin).cells[0].key != planned.cells[0].key


def test_ctrl_c_keeps_the_finished_cells(fields, tmp_path):
    class Pressed(Console):
        """Where Ctrl-C is pressed when the first cell has ended."""

        def print(self, *objects, **options):
            if "output_l1" in str(objects):
                raise KeyboardInterrupt

    planned = sweep.plan(fields, out=tmp_path)
    with pytest.raises(KeyboardInterrupt):
        planned.run("serial", console=Pressed(file=io.StringIO()))
    status = planned.status()
    assert (status.ok, status.left, status.active, status.running) == (1, 1, False, ())
    assert planned.run("serial", console=QUIET).status().complete


def test_a_run_in_a_thread(fields, tmp_path):
    options = {"out": tmp_path, "executor": "serial", "console": QUIET}
    with ThreadPoolExecutor(2) as threads:
        runs = [threads.submit(sweep.run, fields, **options) for _ in range(2)]
    # The second one waited for the first.
    assert [run.result().status().ok for run in runs] == [2, 2]
    assert len(list((tmp_path / "cells").glob("*.parquet"))) <= 2


def test_a_metric_of_the_program_itself_is_refused(fields, tmp_path):
    # No key would say which version of the program made a row, and workers could not load it.
    program = tmp_path / "program.py"
    program.write_text(
        "import json, sys\nimport prune_core as pc\nimport sweep\n\n\n"
        "@pc.metric(source='a test')\ndef mine(layer):\n"
        '    """The largest weight."""\n    return layer.weight.abs().amax(dim=(1, 2, 3))\n\n\n'
        "try:\n    sweep.plan(json.load(sys.stdin))\nexcept sweep.UserError as error:\n"
        "    print(error)\n"
    )
    ended = subprocess.run(
        [sys.executable, program],
        input=json.dumps({**fields, "metrics": ["mine"]}),
        capture_output=True,
        text=True,
        check=True,
    )
    assert "metric 'mine' is defined in the program that runs now" in ended.stdout
    assert "`plugins`" in ended.stdout
