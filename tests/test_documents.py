"""The commands and snippets of README.md and docs/ work as they are written."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import made_up_sweep
import pytest
import typer
import yaml
from made_up_sweep import Grid
from rich.text import Text

import sweep
from cluster.cli import app
from prune_core.budgets import BudgetChoice, rules_of
from prune_core.cost import parameters
from prune_core.network_files import save
from prune_core.networks import Architecture, architecture_of
from prune_core.plugins import REGISTRIES, load_plugin
from prune_core.preprocessing import Preprocessing
from sweep.planning.grid import plan
from sweep.spec.packaged import text_of
from sweep.spec.parsing import parse, read

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
# Shorter trainings, so that the snippet of a minute takes seconds.
QUICK = {"epochs=12": "epochs=1", "Recipe(2, ": "Recipe(1, "}


def snippets(text: str, language: str = "python") -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def commands() -> list[tuple[str, str]]:
    """Every line of a code block that calls prune-sweep, with its page."""
    found = []
    for page in PAGES:
        for block in re.findall(r"```[a-z]*\n(.*?)```", page.read_text(), re.DOTALL):
            lines = block.replace("\\\n", " ").splitlines()
            words = (re.search(r"(?:^|\$ |&& )prune-sweep (.*)", line) for line in lines)
            found += [(page.name, word[1].partition("#")[0].strip()) for word in words if word]
    return found


def links() -> list[tuple[Path, str, str]]:
    """Every link of a page to a file of the repository: page, file and heading."""
    return [
        (page, *link)
        for page in PAGES
        for link in re.findall(r"\]\((?!https?:)([^)#\s]*)#?([^)\s]*)\)", page.read_text())
    ]


@pytest.mark.parametrize(("page", "words"), commands())
def test_a_documented_command_has_these_options(page: str, words: str) -> None:
    command: Any = typer.main.get_command(app)
    name, *rest = words.replace("'", "").split()
    found = command.commands.get(name)
    assert found is not None, f"{page}: there is no command {name}"
    known = {option for each in found.params for option in each.opts + each.secondary_opts}
    asked = {word.partition("=")[0] for word in rest if word.startswith("--")}
    assert asked <= known


def test_help_is_shown_as_it_is_written() -> None:
    command: Any = typer.main.get_command(app)
    texts = [each.help or "" for one in command.commands.values() for each in [one, *one.params]]
    for text in texts:
        # Rich leaves out what it takes for markup.
        assert Text.from_markup(text).plain == text.replace("\\[", "[")


def test_the_readme_shows_the_packaged_spec() -> None:
    shown, protocols = snippets(README, "yaml")
    assert shown == text_of("digits")
    # The fields of the protocols of the field, beside those of this spec.
    spec = yaml.safe_load(shown) | yaml.safe_load(protocols) | {"recipe": {"epochs": 100}}
    spec["metrics"] = ["output_l1"]  # layer_mean and lamp need scores that are never negative
    assert parse(yaml.safe_dump(spec), "README").schedules[1].steps == 5


def test_the_specs_of_the_spec_document_are_valid() -> None:
    document = (ROOT / "docs/spec.md").read_text()
    first, networks, recipes, *_ = snippets(document, "yaml")
    spec = parse(first, "docs/spec.md")
    several = parse(
        re.sub(r"^finetune: .*\n", lambda _: recipes, first, flags=re.M), "docs/spec.md"
    )
    assert [one.rewind for one in several.finetune] == [None] * 3 + ["learning_rate", "weights"]
    (table,) = re.findall(r"\| rule \| keeps.*?\n\n", document, flags=re.S)
    named = re.findall(r"^\| (`.*?) \|", table, flags=re.M)
    rules = [BudgetChoice.parse(rule) for cell in named for rule in re.findall("`(.*?)`", cell)]
    assert {rule.name for rule in rules} == set(rules_of("local"))
    assert spec.network.variant == "resnet56"
    for line in networks.splitlines():
        changed = re.sub(r"^network: .*", lambda _, line=line: line, first, flags=re.MULTILINE)
        if "weights:" in line:
            # A network that starts from a file is not trained from scratch.
            changed = changed.replace("scratch: true, ", "")
        assert parse(changed, "docs/spec.md").network != spec.network


def test_the_readmes_own_network_can_be_planned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, *_ = snippets(README)
    (named,) = re.findall(r"network: \{source: .*\}", network)
    (tmp_path / "my_net.py").write_text(network)
    spec, count = re.subn(r"network: .*", named, text_of("digits"))
    assert count == 1
    (tmp_path / "mine.yaml").write_text(spec)
    monkeypatch.chdir(tmp_path)
    planned = plan(read("mine.yaml"))
    baseline = planned.cells[0].baseline
    assert baseline.variant == "my_net.py:build"
    assert parameters(baseline.architecture) == 5514
    assert planned.notes == ()


@pytest.mark.parametrize(
    ("page", "at", "registered"),
    [("README.md", 1, {"widest"}), ("docs/spec.md", 0, {"widest", "layer_max", "all_but_first"})],
)
def test_the_documented_plugins_register_what_they_say(
    page: str, at: int, registered: set[str], tmp_path: Path
) -> None:
    (tmp_path / "my_metrics.py").write_text(snippets((ROOT / page).read_text())[at])
    before = [set(registry) for registry in REGISTRIES]
    plugin = load_plugin(tmp_path / "my_metrics.py")
    try:
        pairs = zip(REGISTRIES, before, strict=True)
        assert set().union(*(set(registry) - known for registry, known in pairs)) == registered
    finally:
        plugin.unload()


@pytest.mark.parametrize(("page", "target", "anchor"), links())
def test_a_link_between_documents_leads_somewhere(page: Path, target: str, anchor: str) -> None:
    there = (page.parent / target).resolve() if target else page
    assert there.exists()
    if anchor:
        titles = re.findall(r"^#+ (.*)", there.read_text(), re.MULTILINE)
        known = {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}
        assert anchor in known


def test_the_readmes_rows_in_pandas(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    grid = Grid(["digits"], ["output_l1", "random"], [0.3], [0])
    made_up_sweep.write(tmp_path / "runs" / "digits", list(made_up_sweep.rows(grid)))
    monkeypatch.chdir(tmp_path)
    first = next(code for code in snippets(README) if code.startswith("import results"))
    exec(first, {})
    lines = capsys.readouterr().out.splitlines()
    shown = README.partition(first)[2].partition("```\n")[2].partition("```")[2]
    assert lines[0].split() == shown.splitlines()[1].split()
    assert [line.split()[0] for line in lines[1:]] == ["output_l1", "random"]


def test_the_documented_functions_run_a_sweep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (code,) = (
        code
        for code in snippets((ROOT / "docs/spec.md").read_text())
        if code.startswith("import sweep")
    )
    few = "{'source': 'digits', 'train_images': 100, 'test_images': 60, 'image_size': 16}"
    smaller = {
        '"digits"': few,
        "0.25": "0.1",
        '"epochs": 5': '"epochs": 1',
        "epochs=10": "epochs=2",
        "range(3)": "range(1)",
        "planned.run()": "planned.run('serial')",
    }
    for text, instead in smaller.items():
        assert text in code
        code = code.replace(text, instead)
    names: dict[str, Any] = {}
    exec(code, names)
    assert names["done"].status().complete
    assert len(names["frame"]) == len(names["planned"].cells) == 9  # as 27 for three seeds
    assert "9 cells, 0 done before" in capsys.readouterr().out
    assert (tmp_path / "runs" / "longer").is_dir()


def test_the_readmes_functions_are_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (code,) = (code for code in snippets(README) if code.startswith("import sweep"))
    _, run, *used, plan = code.strip().splitlines()[1:]
    few = ["datasets.0={source: digits, train_images: 100, image_size: 16}", "metrics=[random]"]
    names: dict[str, Any] = {"sweep": sweep}
    run = run.replace('"ratios=[0.3]"', f'"ratios=[0.3]", "recipe.epochs=1", *{few}')
    exec(run, names)
    assert [type(eval(line, names)).__name__ for line in used] == ["bool", "DataFrame"]
    assert plan.startswith('sweep.plan("cifar10-small", data=')


def test_the_readmes_three_lines_make_a_network_smaller(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, _, lines, *_ = snippets(README)
    shape = Architecture.named("simplenet_310k", 10, 0.125)
    (tmp_path / "my-network").mkdir()
    save(shape.build(), Preprocessing((30.0,) * 3, (60.0,) * 3), tmp_path / "my-network")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(lines, names)
    assert len(lines.strip().splitlines()) == 1 + 1 + 2  # the import and a blank line
    smaller = architecture_of(names["smaller"].net)
    assert 0.25 < parameters(smaller) / parameters(shape) < 0.35


def test_the_readmes_notebook(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    *_, notebook = snippets(README)
    assert len(re.findall(r"^(?:import|from) ", notebook, re.MULTILINE)) == 2
    for slow, quick in QUICK.items():
        assert slow in notebook
        notebook = notebook.replace(slow, quick)
    exec(notebook, {})
    full, small = capsys.readouterr().out.splitlines()
    assert full.startswith("Evaluation(top1=")
    macs = [int(line.rpartition(" ")[2]) for line in (full, small)]
    assert macs[1] < 0.4 * macs[0]


def test_the_metric_of_the_method_can_be_registered() -> None:
    from prune_core import METRICS

    (snippet,) = snippets((ROOT / "docs/method.md").read_text())
    try:
        exec(snippet, {})
        assert METRICS["widest"].summary
    finally:
        METRICS.pop("widest", None)
