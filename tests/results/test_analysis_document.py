"""Runs every snippet of docs/analysis.md in order, on a small version of its study."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

REPOSITORY = Path(__file__).resolve().parents[2]
DOCUMENT = REPOSITORY / "docs" / "analysis.md"

# Changes that let the study train in seconds; everything that the snippets read stays the same.
SMALLER = {
    "datasets": [{"source": "digits", "train_images": 200, "test_images": 40, "image_size": 16}],
    "network": {"variant": "simplenet_310k", "width": 0.1},
    "seeds": [0, 1],
    "metrics": ["random", "output_l1", "weighted_mutual_information"],
    "ratios": [0.3],
    "recipe": {"epochs": 1, "batch_size": 64},
}


def blocks(language: str) -> list[str]:
    return re.findall(
        rf"^```{language}\n(.*?)^```$", DOCUMENT.read_text(), re.DOTALL | re.MULTILINE
    )


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `runs/study`, made by running the document's spec."""
    pytest.importorskip("torch", reason="torch is not installed; the study needs it")
    place = tmp_path_factory.mktemp("analysis")
    (spec,) = (yaml.safe_load(block) for block in blocks("yaml"))
    assert set(SMALLER) < set(spec)
    (place / "study.yaml").write_text(yaml.safe_dump(spec | SMALLER))
    from sweep.commands.cli import app

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        done = CliRunner().invoke(app, ["run", "study.yaml", "--executor", "serial"])
    assert done.exit_code == 0, done.output
    return place


def test_every_snippet_runs_and_its_assertions_hold(study: Path):
    snippets = blocks("python")
    assert len(snippets) > 10
    # One script, as if a reader pasted all snippets; a failure names the line of the script.
    script = study / "analysis.py"
    script.write_text("\n".join(snippets))
    done = subprocess.run(
        [sys.executable, script], cwd=study, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{script}\n{done.stderr}"
    # Readers copy the snippets, so these must not cause warnings.
    assert "Warning" not in done.stderr
