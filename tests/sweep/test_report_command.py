"""`prune-sweep report` writes where it says, and says what is wrong."""

from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import made_up_sweep
import pytest
from made_up_sweep import Grid

from results.figures.registry import REPORT_FIGURES
from results.report import write

GRID = Grid(("svhn",), ("output_l1", "random"), (0.5,), (0,))


@pytest.fixture(autouse=True)
def _no_figures() -> Iterator[None]:
    """Leaves the figures out, which take seconds."""
    with mock.patch.dict(REPORT_FIGURES, clear=True):
        yield


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return made_up_sweep.write(tmp_path / "runs", list(made_up_sweep.rows(GRID)))


def test_the_page_lies_in_the_folder(folder, invoke):
    done = invoke("report", folder)
    assert (done.exit_code, done.output) == (0, f"{folder / 'report.html'}\n")
    assert (folder / "report.html").read_text("utf-8").startswith("<!doctype html>")
    # A second report reads the folder with the first one in it.
    assert invoke("report", folder).exit_code == 0


def test_markdown_goes_where_it_is_told(folder, tmp_path, invoke):
    done = invoke("report", folder, "--format", "md", "--to", tmp_path / "new" / "study.md")
    assert done.exit_code == 0
    assert (tmp_path / "new" / "study.md").read_text("utf-8").startswith("# made-up\n")


@pytest.mark.parametrize("form", ["html", "md"])
def test_a_name_that_the_locale_lacks_is_written_in_utf_8(form, tmp_path):
    """In the locale C, Python has each byte of a name that is not ASCII as half a surrogate."""
    made_up_sweep.write(tmp_path / "\u043f", list(made_up_sweep.rows(GRID)))
    path = write([f"{tmp_path}/\udcd0\udcbf"], form)
    assert path.read_text("utf-8").count(f"{tmp_path}/\u043f") >= 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["report", "nowhere"], "no results folder nowhere"),
        (["report"], "Missing argument"),
        (["report", "nowhere", "--format", "pdf"], "pdf"),
    ],
)
def test_what_is_wrong_is_said(words, said, invoke):
    done = invoke(*words)
    assert done.exit_code == 2
    assert said in done.output
