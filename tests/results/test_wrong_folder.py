"""A folder without results is refused by everything that reads one, and the right one is named."""

from pathlib import Path

import made_up_sweep
import pytest
from made_up_sweep import Grid

import results
from results import Store, StoreError, report

GRID = Grid(("svhn",), ("random",), (0.5,), (0,))
READERS = {
    "load": results.load,
    "load_history": results.load_history,
    "load_scores": results.load_scores,
    "report": lambda folder: report.write([folder]),
    "compact": lambda folder: Store(folder).compact(),
    "read": lambda folder: Store(folder).read(),
}


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A folder in which two sweeps were run, beside an empty folder."""
    project = tmp_path_factory.mktemp("project")
    for name in ("first", "second"):
        made_up_sweep.write(project / "runs" / name, list(made_up_sweep.rows(GRID)))
    (project / "empty").mkdir()
    return project


@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ("empty", ["no sweep has written to it"]),
        ("absent", ["there is no results folder"]),
        ("runs", ["contains results folders", "{project}/runs/first", "{project}/runs/second"]),
        (".", ["contains results folders", "{project}/runs/first"]),
        ("runs/first/cells", ["a part of one", "name {project}/runs/first"]),
    ],
)
def test_what_is_meant_is_named(read, wrong, words, project):
    with pytest.raises(StoreError) as caught:
        read(project / wrong)
    message = str(caught.value)
    assert [w for w in words if w.format(project=project) not in message] == [], message
    assert list((project / "empty").iterdir()) == []
    assert not (project / "report.html").exists()


def test_a_path_of_dots_is_understood(project, monkeypatch):
    monkeypatch.chdir(project / "runs" / "first")
    with pytest.raises(StoreError, match=f"{project}/runs/first, {project}/runs/second"):
        results.load("..")


def test_many_folders_are_counted(tmp_path):
    for at in range(7):
        Store(tmp_path / str(at)).create()
    with pytest.raises(StoreError, match="and 2 more"):
        results.load(tmp_path)


def test_an_object_store(object_store):
    where = object_store.new_prefix()
    Store(f"{where}").create()
    assert len(results.load(where)) == 0


def test_copied_cells_alone_are_results(project: Path, tmp_path: Path):
    source = project / "runs" / "first" / "cells"
    (tmp_path / "cells").mkdir()
    for file in source.iterdir():
        (tmp_path / "cells" / file.name).write_bytes(file.read_bytes())
    assert len(results.load(tmp_path)) == len(results.load(project / "runs" / "first"))


def test_an_empty_folder_can_become_one(tmp_path):
    assert Store(tmp_path).statuses() == {}
