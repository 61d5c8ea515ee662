"""What `prune-sweep plan` prints beside the cells."""

import re

import pytest


@pytest.fixture(scope="module")
def printed(content, tmp_path_factory):
    """The plan of a sweep with every kind of work, as one line."""
    import yaml
    from typer.testing import CliRunner

    from sweep.commands.cli import app

    folder = tmp_path_factory.mktemp("plan")
    changes = {"controls": {"scratch": True}, "ratios": [0.3]}
    (folder / "small.yaml").write_text(yaml.safe_dump(content(changes)))
    done = CliRunner().invoke(
        app, ["plan", str(folder / "small.yaml"), "--out", str(folder / "runs")]
    )
    assert done.exit_code == 0, done.output
    return " ".join(done.stdout.split())


def test_the_plan_says_what_the_time_is_spent_on(printed):
    names = ["training baselines", "statistics", "fine-tuning and controls", "evaluation"]
    shares = [int(re.search(rf"{name} (\d+) %", printed)[1]) for name in names]
    assert sum(shares) == pytest.approx(100, abs=2)
    # A baseline and a network from scratch of one epoch each: neither is all of the work.
    assert 0 < shares[0] < 100
    assert 0 < shares[2] < 100


def test_a_part_is_counted_beside_the_whole(invoke, write_spec, tmp_path):
    path = write_spec({"seeds": [0, 1]})
    done = invoke("plan", path, "--out", tmp_path, "--where", "seed=1", "--where", "ratio=0.3")
    words = " ".join(done.stdout.split())
    assert "cells 16: 1 dataset x 2 seeds" in words
    assert "this part 4 cells done 0 to run 4 " in words


def test_controls_are_counted(printed):
    assert "cells 6: 1 dataset x 1 seed x 2 metrics x 2 budgets x 1 ratio + 2 controls" in printed
