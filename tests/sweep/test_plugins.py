"""Plug-in files: what they register, where it is known, and what is in the keys of cells."""

from __future__ import annotations

import json
import pickle
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent

import pandas as pd
import pytest
import torch
import yaml
from faults.disturbance import table

import prune_core as pc
import results
from cluster.bundle import bundle
from prune_core.images import load
from prune_core.network_files import NetworkFileError
from prune_core.plugins import _LOADED, REGISTRIES, PluginError, load_plugin
from sweep.errors import SpecError
from sweep.planning.cells import Cell
from sweep.planning.grid import plan
from sweep.spec.parsing import parse, read
from sweep.stages.workspace import Workspace

PLUGIN = """
from dataclasses import dataclass

import numpy as np
from torch import nn

import prune_core as pc
from prune_core.images import Location, Origin
from prune_core.images.arrays import Arrays
from prune_core.normalisation import normalisation
from prune_core.statistics import Moments

from numbers_of_mine import BRIGHT


@dataclass(frozen=True)
class Spread(Moments):
    pass


@pc.metric(source="a test", needs=frozenset({Spread()}), nonnegative=True)
def spread(layer):
    "Variance of each channel."
    return layer.answer(Spread())["variance"]


@normalisation()
def layer_max(metric, scores, layer):
    "The scores divided by the largest of the layer."
    return scores / scores.max()


@pc.layerwise(ratio_of="channels")
def halves(architecture, ratio, floor):
    "Half of the channels."
    return tuple(max(1, width // 2) for width in architecture.widths)


@pc.image_source("stripes", "dark and bright images", "a test", True, image_size=(16, 16))
def stripes(location: Location) -> Origin:
    def read() -> Arrays:
        labels = np.arange(40) % 2
        images = (BRIGHT * labels[:, None, None, None]).astype(np.uint8)
        images = np.broadcast_to(images, (40, 3, 16, 16)) + np.arange(16, dtype=np.uint8)
        return Arrays(images, labels, images[:10], labels[:10])

    return Origin("stripes", ["stripes", 1], read, lambda: ("dark", "bright"))


@pc.network("a test", image_size=(16, 16))
def tiny(classes: int, *, width: float = 1.0) -> nn.Module:
    "Two convolutions."
    few = int(8 * width)
    blocks = [
        nn.Sequential(nn.Conv2d(a, few, 3), nn.BatchNorm2d(few), nn.ReLU()) for a in (3, few)
    ]
    pooled = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(few, classes))
    return nn.Sequential(*blocks, pooled)
"""
NAMES = ["spread", "halves", "layer_max", "stripes", "tiny"]
METRIC = """
import prune_core as pc


@pc.metric(source="a test")
def {}(layer):
    "Largest weight of each filter."
    return layer.weight.abs().amax(dim=(1, 2, 3))
"""


def needing(needs: str, option: str) -> str:
    """A metric that reads statistics and has an option."""
    found = METRIC.format("one").replace("(layer)", f"(layer, *, {option})")
    return found.replace('source="a test"', f'source="a test", needs={needs}')


CHANGES = {
    "plugins": ["mine.py"],
    "datasets": ["stripes"],
    "network": {"variant": "tiny"},
    "metrics": ["output_l1", "spread"],
    "ratios": [0.5],
    "local_budgets": ["uniform_parameters", "halves"],
    "normalisations": ["none", "layer_max"],
    "controls": {"unpruned": True},
    "resources": {"cpus": 1, "gpus": 0},
    "keep": "none",
}
"""Of the small sweep: everything that the plug-in registers."""


@pytest.fixture(autouse=True)
def _without_plugins() -> Iterator[None]:
    """Takes out what a test registers."""
    yield
    forget()


def forget() -> None:
    for plugin in list(_LOADED.values()):
        plugin.unload()


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """A folder with the plug-in, not the current one."""
    return write(tmp_path / "mine")


def write(folder: Path) -> Path:
    folder.mkdir()
    (folder / "mine.py").write_text(PLUGIN)
    (folder / "numbers_of_mine.py").write_text("BRIGHT = 200\n")
    return folder


@pytest.fixture
def cells(mine: Path, content) -> Callable[..., dict[str, Cell]]:
    """The cells of a spec beside the plug-in, by their labels."""

    def build(changes=None) -> dict[str, Cell]:
        path = mine / "small.yaml"
        path.write_text(yaml.safe_dump(content({"plugins": ["mine.py"], **(changes or {})})))
        return {cell.label: cell for cell in plan(read(str(path))).cells}

    return build


def change(mine: Path) -> None:
    """Another version of a file that the plug-in imports."""
    (mine / "numbers_of_mine.py").write_text("BRIGHT = 100\n")


@pytest.mark.parametrize(
    ("changes", "using"),
    [
        ({}, ""),
        ({"metrics": ["output_l1", "spread"]}, "spread"),
        ({"local_budgets": ["uniform_parameters", "halves"]}, "halves"),
        ({"normalisations": ["none", "layer_max"]}, "layer_max"),
        ({"metrics": ["output_l1"], "controls": {"widths_of": ["spread"]}}, "spread"),
        ({"network": {"variant": "tiny"}}, "digits"),
        ({"datasets": ["digits", "stripes"]}, "stripes"),
    ],
    ids=["nothing", "metric", "budget", "normalisation", "reference", "network", "images"],
)
def test_a_changed_file_changes_the_keys_of_the_cells_that_use_it(changes, using, cells, mine):
    before = cells(changes)
    change(mine)
    after = cells(changes)
    assert before.keys() == after.keys()
    changed = {label for label in before if before[label].key != after[label].key}
    assert changed == {label for label in before if using and using in label}
    (fingerprint,) = _LOADED
    assert changed == {label for label, cell in after.items() if fingerprint in cell.identity}


def test_statistics_of_two_files_or_versions_are_stored_apart(cells, mine, content, tmp_path):
    """Their requests have the same text, but another class collects them."""

    def stored(found):
        (cell,) = (one for one in found.values() if one.metric in ("spread", "other"))
        (request,) = cell.importance.statistics.requests
        assert repr(request) == "Spread()"
        return cell.importance.statistics.key(request)

    changes = {"metrics": ["output_l1", "spread"], "seeds": [0], "ratios": [0.5]}
    changes |= {"scopes": ["local"]}
    keys = [stored(cells(changes))]
    change(mine)
    keys.append(stored(cells(changes)))
    (mine / "second.py").write_text(
        PLUGIN.split("@normalisation")[0].replace("def spread", "def other")
    )
    both = {"plugins": ["mine.py", "second.py"], "metrics": ["output_l1", "other"]}
    keys.append(stored(cells(changes | both)))
    assert len(set(keys)) == 3


def test_cells_that_use_no_plugin_have_the_keys_of_a_spec_without_one(cells, spec):
    without = {cell.label: cell.key for cell in plan(spec()).cells}
    assert {label: cell.key for label, cell in cells().items()} == without


def test_another_version_of_a_source_is_decoded_again(mine):
    load_plugin(mine / "mine.py")
    assert load("stripes").train_images.amax() == 215
    change(mine)
    load_plugin(mine / "mine.py")
    assert load("stripes").train_images.amax() == 115


@pytest.fixture(scope="module")
def finished(run_digits, tmp_path_factory) -> Path:
    """A folder with the plug-in, and in `runs` the results of the sweep; not to be changed."""
    folder = write(tmp_path_factory.mktemp("plugin") / "mine")
    changes = CHANGES | {"plugins": [str(folder / "mine.py")]}
    done = run_digits(folder / "runs", changes)
    assert done.exit_code == 0, done.output
    forget()
    return folder


@pytest.mark.slow
def test_rows_name_the_version_of_everything_that_comes_from_a_file(finished):
    frame = results.load(finished / "runs")
    assert set(frame["status"]) == {"ok"}
    of = results.identities(frame)
    (fingerprint,) = (path.name for path in (finished / "runs" / "sources").iterdir())
    assert set(of["baseline.dataset.plugin"]) == {fingerprint}
    assert set(of["baseline.architecture.network.plugin"]) == {fingerprint}
    used = {
        "scores.metric.plugin": frame["metric"] == "spread",
        "budget.rule.plugin": frame["budget"] == "halves",
    }
    for column, using in used.items():
        assert set(of.loc[using, column]) == {fingerprint}
        assert of.loc[~using, column].isna().all()
    assert set(of["budget.normalisation"]) == {
        '["none", 1]',
        f'["layer_max", 1, {{"plugin": "{fingerprint}"}}]',
    }


@pytest.mark.slow
def test_the_kept_spec_runs_with_the_version_that_made_the_rows(finished, invoke, tmp_path):
    runs = Path(shutil.copytree(finished / "runs", tmp_path / "runs"))
    (copy,) = (runs / "sources").iterdir()
    assert {path.name for path in copy.iterdir()} == {"mine.py", "numbers_of_mine.py"}
    done = invoke("run", runs / "spec.yaml", "--out", runs, "--executor", "serial")
    assert done.exit_code == 0, done.output
    assert "9 cells, 9 done before, 0 to run" in done.output
    assert not (runs / "spec-1.yaml").exists()


@pytest.mark.slow
def test_rows_of_two_versions_are_told_apart(finished, content, invoke, tmp_path):
    folder = Path(shutil.copytree(finished, tmp_path / "changed"))
    change(folder)
    spec = folder / "small.yaml"
    spec.write_text(yaml.safe_dump(content(CHANGES)))
    old = results.load(folder / "runs")
    key = old.loc[old["metric"] == "spread", "key"].iloc[0]
    done = invoke("run", spec, "--out", folder / "runs", "--executor", "serial", "--cell", key)
    assert done.exit_code == 2
    assert "has changed in" in done.stderr
    assert "the text of the plug-in of baseline.dataset (" in done.stderr
    new = old[old["metric"] == "spread"]
    new = new.assign(identity=new["identity"].map(_of_another_metric), key=new["key"].str[::-1])
    with pytest.raises(ValueError, match=r"scores\.metric\.plugin is \w+ and another;"):
        results.accuracy_table(pd.concat([old, new], ignore_index=True))


def _of_another_metric(identity: str) -> str:
    content = json.loads(identity)
    content["scores"]["metric"]["plugin"] = "another"
    return json.dumps(content)


def test_ray_gives_the_same_rows_although_the_files_are_gone(
    finished, content, start, leftovers, tmp_path
):
    folder = write(tmp_path / "study")
    (folder / "small.yaml").write_text(yaml.safe_dump(content(CHANGES)))
    process = start("run", folder / "small.yaml", "--out", tmp_path / "ray", marker="plugin")
    assert process.stdout is not None
    planned = any("9 cells, 0 done before, 9 to run" in line for line in process.stdout)
    assert planned, process.communicate()
    shutil.rmtree(folder)
    shutil.rmtree(tmp_path / "ray" / "sources")
    output, errors = process.communicate()
    assert process.returncode == 0, output
    assert all(line.startswith("note: stripes: ") for line in errors.splitlines()), errors
    assert leftovers("plugin") == []
    pd.testing.assert_frame_equal(table(tmp_path / "ray"), table(finished / "runs"))


def test_a_worker_knows_what_a_workspace_brings(mine, cells, tmp_path):
    cell = cells({"metrics": ["spread"]}).popitem()[1]
    plugins = tuple(_LOADED.values())
    sent = pickle.dumps((Workspace(tmp_path, "small", plugins=plugins), cell.statistics))
    key = cell.statistics[0].key(*cell.statistics[0].requests)
    forget()
    shutil.rmtree(mine)
    assert "spread" not in pc.METRICS
    assert not [name for name in sys.modules if name.startswith("prune_sweep_plugin_")]
    workspace, (statistics,) = pickle.loads(sent)
    assert workspace.plugins == plugins
    # The request is of a class of the plug-in.
    assert statistics.key(*statistics.requests) == key
    assert statistics.requests == pc.Choice("spread").needs()


def test_a_job_takes_the_files_along(mine, content, tmp_path, monkeypatch):
    (mine / "small.yaml").write_text(yaml.safe_dump(content(CHANGES)))
    (mine / "more.py").write_text(METRIC.format("widest"))
    monkeypatch.chdir(mine.parent)
    (tmp_path / "job").mkdir()
    more = ["metrics=[spread, widest]"]
    packed = bundle("mine/small.yaml", tmp_path / "job", more, [Path("mine/more.py")])
    keys = [cell.key for cell in plan(read("mine/small.yaml", more)).cells]
    forget()
    shutil.rmtree(mine)
    monkeypatch.chdir(tmp_path / "job")
    assert len(list(Path("plugins").glob("*/*.py"))) == 3
    assert [cell.key for cell in plan(read(packed.spec)).cells] == keys


def test_a_file_given_twice_is_one_plugin_and_a_changed_one_replaces_it(mine, content):
    given = {"plugins": ["mine.py", "../mine/mine.py"], "metrics": ["spread"]}
    first = parse(yaml.safe_dump(content(given)), "small.yaml", base=mine)
    assert len(first.plugins) == len(_LOADED) == 1
    assert load_plugin("mine.py", mine) == first.plugins[0]
    change(mine)
    load_plugin("mine.py", mine)
    (mine / "mine.py").write_text(METRIC.format("another"))
    load_plugin("mine.py", mine)
    assert "another" in pc.METRICS
    assert not [name for registry in REGISTRIES for name in NAMES if name in registry]
    # As when a change is taken back.
    write(mine.parent / "copy")
    shutil.copy(mine.parent / "copy" / "mine.py", mine)
    load_plugin("mine.py", mine)
    assert [sum(name in registry for registry in REGISTRIES) for name in NAMES] == [1] * 5
    assert "another" not in pc.METRICS


WRONG = {
    "absent": ({}, ["there is no file mine.py in"]),
    "no name": ({"mine.py": "x = 1"}, ["plug-in mine.py registers nothing", "@metric"]),
    "syntax": ({"mine.py": "x = 1\ndef (\n"}, ["mine.py, line 2 (def ()", "SyntaxError"]),
    "error": (
        {"mine.py": "import more\n", "more.py": "\n\nhalf = 1 / 0\n"},
        ["plug-in mine.py raised at more.py, line 3 (half = 1 / 0): ZeroDivisionError"],
    ),
    "module": ({"mine.py": "import nowhere_at_all\n"}, ["line 1", "No module named 'nowhere_at"]),
    "built in": (
        {"mine.py": METRIC.format("output_l1")},
        ["mine.py, line 5", "metric 'output_l1' is already registered by prune-sweep"],
    ),
    "taken": (
        {"mine.py": METRIC.format("one"), "twin/mine.py": METRIC.format("one") + "\n"},
        ["plug-in twin/mine.py raised", "'one' is already registered by plug-in mine.py"],
    ),
    "rest": (
        {"mine.py": METRIC.format("one") + METRIC.format("output_l2")},
        ["metric 'output_l2' is already registered"],
    ),
    "option without annotation": (
        {"mine.py": METRIC.format("one").replace("(layer)", "(layer, *, power)")},
        ["metric 'one', option 'power' needs an annotation"],
    ),
    "option of a type that no spec has": (
        {"mine.py": METRIC.format("one").replace("(layer)", "(layer, *, powers: list = [])")},
        ["metric 'one', option 'powers' needs an annotation", "int, float, str, bool"],
    ),
    "needs of other options": (
        {"mine.py": needing("lambda bins: frozenset()", "power: int = 1")},
        ["metric 'one': its `needs` failed: TypeError", "options of the metric, power"],
    ),
    "needs that give nothing": (
        {"mine.py": needing("lambda **_: None", "power: int = 1")},
        ["metric 'one': its `needs` failed", "a function that returns one"],
    ),
    "needs of an option without default": (
        {"mine.py": needing("lambda power: frozenset()", "power: int")},
        ["metric 'one', option 'power' needs a default", "`needs`"],
    ),
}


@pytest.mark.parametrize(("files", "words"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_with_a_file_is_told(files, words, write_spec, tmp_path, invoke, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    before = [dict(registry) for registry in REGISTRIES]
    more = [name for name in files if name.startswith("twin")]
    spec = write_spec({"plugins": ["mine.py", *more], "metrics": ["one"]})
    for command in (["plan", spec], ["metrics", "--plugin", "mine.py", *_each(more)]):
        done = invoke(*command)
        assert (done.exit_code, done.stdout) == (2, ""), done.output
        assert [word for word in words if word not in done.stderr] == [], done.stderr
        assert "Traceback" not in done.stderr
        # The metric is unknown because of the plug-in, which is the one thing to mend.
        assert len(done.stderr.splitlines()) == 1
        forget()
    assert [dict(registry) for registry in REGISTRIES] == before


FAILING = """
import prune_core as pc
from prune_core.normalisation import normalisation


@pc.metric(source="a test")
def strong(layer, *, power: int):
    "A metric with an option that has no default."
    return layer.weight.abs().sum(dim=(1, 2, 3)) ** power


@pc.layerwise()
def failing(architecture, ratio, floor):
    "Raises."
    return architecture.nothing


@pc.layerwise()
def short(architecture, ratio, floor):
    "Too few widths."
    return 1, 2


@normalisation(fits=lambda metric: metric.nothing)
def choosy(metric, scores, layer):
    "Cannot say which metrics it fits."
    return scores


@pc.image_source("torn", "no images", "a test", True)
def torn(location):
    raise RuntimeError("torn")


@pc.network("a test")
def broken(classes: int, *, width: float = 1.0):
    "Raises."
    raise RuntimeError("broken")


@pc.network("a test")
def absent(classes: int, *, width: float = 1.0):
    "Returns nothing."
"""


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"metrics": ["strong"]}, ["metrics[0] is 'strong'", "needs a value for its option"]),
        ({"local_budgets": ["failing"]}, ["budget 'failing'", "mine.py, line 15 (return arch"]),
        ({"local_budgets": ["short"]}, ["budget 'short' gave the widths (1, 2)", "give 13 whole"]),
        ({"normalisations": ["choosy"]}, ["normalisation 'choosy'", "mine.py, line 24", "nothing"]),
        ({"datasets": ["torn"]}, ["dataset torn: torn", "mine.py, line 32", "RuntimeError: torn"]),
        ({"network.variant": "broken"}, ["network 'broken'", "mine.py, line 38", "Error: broken"]),
        ({"network.variant": "absent"}, ["network 'absent' returned NoneType", "nn.Module"]),
    ],
    ids=str,
)
def test_what_a_function_of_a_file_does_wrong_is_told(changes, words, spec, tmp_path):
    (tmp_path / "mine.py").write_text(FAILING)
    load_plugin(tmp_path / "mine.py")
    with pytest.raises(SpecError) as caught:
        plan(spec(changes))
    assert [word for word in words if word not in str(caught.value)] == [], str(caught.value)


def test_a_network_that_cannot_be_built_is_told_by_the_list(invoke, tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(FAILING)
    plugin = load_plugin(tmp_path / "mine.py")
    broken = {"broken": pc.NETWORKS["broken"]}
    monkeypatch.setattr("sweep.commands.listing.NETWORKS", broken)
    done = invoke("networks")
    assert done.exit_code == 2
    assert f"error: network 'broken': {plugin} raised at mine.py, line 38" in done.stderr


def _each(files: list[str]) -> list[str]:
    return [word for file in files for word in ("--plugin", file)]


@pytest.mark.parametrize(("given", "words"), [(3, "plugins is 3;"), ([None], "plugins[0] is None")])
def test_what_is_no_path_is_refused(given, words, spec):
    with pytest.raises(SpecError, match=re.escape(words) + ".* must be the path of a Python file"):
        spec({"plugins": given})


def test_a_file_with_a_hidden_import_is_refused(tmp_path):
    (tmp_path / "mine.py").write_text(
        dedent("""
        import sys
        sys.path.insert(0, {folder!r})
        __import__("beside_mine")
        sys.path.pop(0)
        """).format(folder=str(tmp_path))
        + METRIC.format("one")
    )
    (tmp_path / "beside_mine.py").write_text("")
    with pytest.raises(PluginError, match="imports beside_mine without an import statement"):
        load_plugin(tmp_path / "mine.py")
    assert "one" not in pc.METRICS


def test_the_lists_name_the_file(mine, invoke, monkeypatch):
    monkeypatch.chdir(mine)
    # The list of networks, which traces them all, is slow.
    found = "".join(invoke(name, "--plugin", "mine.py").stdout for name in ("metrics", "datasets"))
    (fingerprint,) = _LOADED
    entries = re.findall(r"^(\w+).*\n(?:    .*\n)*?    from plug-in (.*)\n", found, re.MULTILINE)
    assert entries == [(name, f"mine.py, fingerprint {fingerprint}") for name in NAMES[:4]]


def test_a_network_file_loads_only_with_the_version_that_it_was_built_by(mine, tmp_path):
    load_plugin(mine / "mine.py")
    shape = pc.Architecture.named("tiny", 2, image_size=(16, 16))
    net = pc.Classifier(shape.build(), pc.Preprocessing((30.0,) * 3, (60.0,) * 3), None)
    (tmp_path / "net").mkdir()
    net.save(tmp_path / "net")
    images = torch.zeros(2, 3, 16, 16, dtype=torch.uint8)
    forget()
    with pytest.raises(NetworkFileError, match=r"from a plug-in file .* give the file with"):
        pc.load(tmp_path / "net")
    load_plugin(mine / "mine.py")
    torch.testing.assert_close(pc.load(tmp_path / "net")(images), net(images))
    change(mine)
    load_plugin(mine / "mine.py")
    with pytest.raises(NetworkFileError, match=r"not loaded; plug-in \S+ has the fingerprint"):
        pc.load(tmp_path / "net")


def test_what_a_normalisation_returns_is_checked(tmp_path):
    (tmp_path / "mine.py").write_text(
        "from prune_core.normalisation import normalisation\n\n\n"
        "@normalisation()\ndef listed(metric, scores, layer):\n    return scores.tolist()\n"
    )
    load_plugin(tmp_path / "mine.py")
    metric = pc.Choice("output_l1")
    layers = pc.views(pc.Architecture.named("simplenet_310k", 10, 0.125).build())
    with pytest.raises(ValueError, match="normalisation 'listed' gave a list for layer 0; it must"):
        pc.normalise("listed", metric, metric(layers), layers)
