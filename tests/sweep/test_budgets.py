"""Budget rules with options as an axis of a sweep: cells, keys and rows."""

import json

import pytest
import torch
import yaml

import results
from cluster.bundle import bundle
from prune_core.budgets import BUDGETS, BudgetChoice, Importances, held_out_loss
from prune_core.cost import cost, macs
from prune_core.layer import views
from prune_core.metrics import Choice
from sweep.errors import SpecError
from sweep.planning.grid import plan
from sweep.planning.images_seen import images_seen
from sweep.spec.conditions import conditions_of, with_budgets
from sweep.spec.parsing import parse, read
from sweep.spec.writing import resolved
from sweep.stages.artifacts import Artifacts
from sweep.stages.data import split_of

WIDTHS = [4, 2, 2, 4, 4, 4, 4, 4, 6, 8, 16, 4, 4]
SENSITIVITY = "sensitivity(images=64, of=macs, step=0.25)"
LOCAL = ["uniform_macs", "erk", "erk(of=macs)", SENSITIVITY, "widths(file=widths.yaml)"]
CHANGES = {
    "metrics": ["output_l1", "bn_scale"],
    "ratios": [0.6],
    "local_budgets": LOCAL,
    "global_budgets": ["global", "global(of=macs)"],
    "controls": {"widths_of": ["bn_scale"], "scratch": True},
    "finetune.images": 64,
}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A current folder with a file of widths."""
    folder = tmp_path_factory.mktemp("budgets")
    (folder / "widths.yaml").write_text(json.dumps(WIDTHS))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield folder


@pytest.fixture(scope="module")
def frame(run_digits, place):
    done = run_digits(place / "runs", CHANGES)
    assert done.exit_code == 0, done.output
    return results.load(place / "runs")


def test_a_row_says_both_ratios_and_which_one_was_the_target(frame):
    pruned = frame[~frame["metric"].isin(["scratch", "unpruned"])]
    assert set(pruned["budget"]) == {
        *LOCAL,
        *CHANGES["global_budgets"],
        "widths_of(bn_scale)",
        "widths_of(bn_scale, of=macs)",
    }
    by_macs = pruned["budget"].str.contains("macs")
    assert set(pruned[by_macs]["ratio_of"]) == {"macs"}
    assert set(pruned[~by_macs]["ratio_of"]) == {"parameters"}
    assert ((frame["mac_ratio"] - frame["macs"] / frame["macs_full"]).abs() < 1e-12).all()
    # Each of these narrow layers' channels is a few percent of the whole.
    assert ((pruned["mac_ratio"] - 0.6)[by_macs].abs() < 0.05).all()
    parameters = pruned[~by_macs & ~pruned["budget"].str.startswith("widths(")]
    assert ((parameters["parameter_ratio"] - 0.6).abs() < 0.05).all()


def test_widths_of_a_file_have_their_own_ratio_and_need_the_file_no_more(frame, spec, place):
    rows = frame[frame["budget"] == "widths(file=widths.yaml)"]
    assert set(rows["metric"]) == {"output_l1", "bn_scale", "scratch"}
    assert (rows["ratio"] == rows["parameter_ratio"]).all()
    assert all(list(widths) == WIDTHS for widths in rows["widths"])
    made = plan(spec(CHANGES)).cells
    key = next(c.key for c in made if c.budget.choice.name == "widths")
    # The key holds the widths, not the name of the file.
    (place / "same.json").write_text(json.dumps(WIDTHS))
    full = made[0].baseline.architecture
    named = dict(zip(full.groups.names, WIDTHS, strict=True))
    (place / "named.yaml").write_text(json.dumps(named))
    (place / "other.yaml").write_text(json.dumps([*WIDTHS[:-1], 5]))
    keys = [
        plan(spec(CHANGES | {"local_budgets": [f"widths(file={name})"]})).cells[0].key
        for name in ("same.json", "named.yaml", "other.yaml")
    ]
    assert keys[0] == keys[1] == key != keys[2]


def test_a_planned_comparison_has_the_ratio_of_the_widths_in_its_file(spec, place):
    named = {"metric": "bn_scale", "budget": LOCAL[-1]}
    cell = next(c for c in plan(spec(CHANGES)).cells if c.budget.choice.name == "widths")
    asked = {**named, "ratio": round(cell.ratio, 3)}
    (found,) = plan(spec({**CHANGES, "comparisons": [asked]})).comparisons
    assert (found.ratio, found.dataset, found.rule) == (cell.ratio, "digits", LOCAL[-1])
    with pytest.raises(SpecError, match=r"comparisons\[0\]\.ratio is 0\.6; .*; give this ratio"):
        plan(spec({**CHANGES, "comparisons": [{**named, "ratio": 0.6}]}))


def test_a_sweep_keeps_what_the_rule_keeps(frame, spec, place):
    cells = plan(spec(CHANGES)).cells
    trained = Artifacts(place / "runs/artifacts").baseline(cells[0].baseline.key)
    net, split = trained.net, split_of(cells[0].baseline.dataset)
    scores = Choice.of("output_l1")(views(net))
    loss = held_out_loss(net, split.train.first(64), trained.preprocessing)
    for rule in (SENSITIVITY, "erk(of=macs)", "global(of=macs)"):
        choice = BudgetChoice.parse(rule)
        (cell,) = (c for c in cells if (c.metric, c.budget.label) == ("output_l1", choice.label))
        found = Importances(scores, scores, loss)
        kept = choice.kept(net.architecture, 0.6, cell.budget.floor, found)
        told = results.load_channels(place / "runs", filters=[("key", "==", cell.key)])
        for layer, rows in told[told["kept"]].groupby("layer"):
            assert torch.equal(torch.tensor(rows["channel"].tolist()), kept[layer])


def test_keys_of_rules_without_options_stay(spec):
    named, usual = (
        plan(spec({"global_budgets": [rule]})).cells for rule in ("global(of=parameters)", "global")
    )
    assert [c.key for c in named] == [c.key for c in usual]
    assert json.loads(usual[-1].identity)["budget"]["rule"] == "global"


def test_a_control_at_other_widths_counts_what_the_spec_counts(spec):
    for rules, labels in (
        (["global(of=macs)"], ["widths_of(bn_scale, of=macs)"]),
        (["global"], ["widths_of(bn_scale)"]),
    ):
        cells = plan(spec({"global_budgets": rules, "controls.widths_of": ["bn_scale"]})).cells
        found = {c.budget.label for c in cells if c.budget.scope == "widths_of"}
        assert found == set(labels)


def test_sensitivity_names_its_cost_and_the_estimate_has_it(spec, invoke, write_spec, tmp_path):
    changes = {"local_budgets": [SENSITIVITY], "scopes": ["local"]}
    said = invoke("plan", write_spec(changes), "--out", tmp_path / "runs").output
    cell = plan(spec(changes)).cells[0]
    choice, full = cell.budget.choice, cell.baseline.architecture
    times = choice.evaluations(full, 0.3, cell.budget.floor)
    assert f"up to about {times:,} of 64 images in a cell" in " ".join(said.split())
    uniform = plan(spec({"local_budgets": ["uniform_macs"], "scopes": ["local"]})).cells[0]
    assert images_seen(cell)[1] == images_seen(uniform)[1] + 64 * times
    assert cost(full, "macs") == macs(full)
    assert BUDGETS["sensitivity"].loss_images() == 256


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"local_budgets": ["global"]}, ["local_budgets[0]", "local scope", "'erk'"]),
        ({"local_budgets": ["uniform"]}, ["local_budgets[0]", "not a budget rule", "'erk'"]),
        ({"global_budgets": ["global(of=flops)"]}, ["global_budgets[0]", "parameters, macs"]),
        ({"local_budgets": ["erk", "erk(of=parameters)"]}, ["names erk twice"]),
        ({"local_budgets": ["widths"]}, ["local_budgets[0]", "'file'"]),
        (
            {"comparisons": [{"metric": "entropy_gaussian", "ratio": 0.3, "budget": "erk"}]},
            ["comparisons[0].budget is erk", "uniform_parameters"],
        ),
    ],
)
def test_a_wrong_budget_is_told(spec, changes, words):
    with pytest.raises(SpecError) as caught:
        spec(changes)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("held", "words"),
    [
        (None, ["cannot be read"]),
        ([1, 2], ["13"]),
        ("blocks.0.conv: 2\nblocks.0.conv: 1\n", ["'blocks.0.conv' is given twice"]),
        ({"conv": 4}, ["'conv'"]),
        ([*WIDTHS[:-1], 900], ["900"]),
    ],
    ids=str,
)
def test_a_file_of_wrong_widths_is_told(spec, held, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if held is not None:
        (tmp_path / "w.yaml").write_text(held if isinstance(held, str) else yaml.safe_dump(held))
    made = spec({"local_budgets": ["widths(file=w.yaml)"], "scopes": ["local"]})
    assert parse(resolved(made), "spec.yaml") == made
    with pytest.raises(SpecError) as caught:
        plan(made)
    for word in ["w.yaml", *words]:
        assert word in str(caught.value)


def test_a_job_takes_the_files_of_widths_along(spec, write_spec, tmp_path, monkeypatch):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/w.yaml").write_text(json.dumps(WIDTHS))
    monkeypatch.chdir(tmp_path)
    rule = "widths(file=mine/w.yaml)"
    (ratio,) = {cell.ratio for cell in plan(spec({**CHANGES, "local_budgets": [rule]})).cells[:1]}
    comparison = {"metric": "bn_scale", "budget": rule, "ratio": ratio}
    path = write_spec({**CHANGES, "local_budgets": ["erk", rule], "comparisons": [comparison]})
    cells = plan(read(str(path))).cells
    (tmp_path / "job").mkdir()
    packed = bundle(str(path), tmp_path / "job")
    assert packed.renamed == {}
    assert (tmp_path / "job" / packed.spec).read_text() == path.read_text()
    (tmp_path / "mine/w.yaml").unlink()
    monkeypatch.chdir(tmp_path / "job")
    there = plan(read(packed.spec))
    assert [cell.key for cell in there.cells] == [cell.key for cell in cells]
    assert there.comparisons[0].rule == rule


@pytest.mark.parametrize("named", ["{}/w.yaml", "../elsewhere/w.yaml", "sweep/w.yaml"])
def test_conditions_follow_a_file_of_widths_that_a_job_renames(
    named, spec, write_spec, tmp_path, monkeypatch
):
    for folder in ("elsewhere", "here/sweep", "job"):
        (tmp_path / folder).mkdir(parents=True)
    for folder in ("elsewhere", "here/sweep"):
        (tmp_path / folder / "w.yaml").write_text(json.dumps(WIDTHS))
    monkeypatch.chdir(tmp_path / "here")
    rule = f"widths(file={named.format(tmp_path / 'elsewhere')})"
    path = write_spec({**CHANGES, "local_budgets": ["erk", rule]})
    where = ["metric=bn_scale", f"budget=[ '{rule}' , erk]", f"budget={rule.replace('=', ' = ')}"]
    wanted = [plan(read(str(path))).where(conditions_of(one)) for one in (where[:2], where[2:])]
    packed = bundle(str(path), tmp_path / "job")
    monkeypatch.chdir(tmp_path / "job")
    there = plan(read(packed.spec))
    told = with_budgets(where, packed.renamed)
    assert told[0] == where[0]
    for part, one in zip(wanted, (told[:2], told[2:]), strict=True):
        found = there.where(conditions_of(one)).cells
        assert [cell.key for cell in found] == [cell.key for cell in part.cells]
        assert "widths(file=widths/w.yaml)" in {cell.budget.label for cell in found}


def test_a_job_refuses_files_of_widths_that_it_cannot_take(write_spec, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in "ab":
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "w.yaml").write_text("[1]")
    for number, words in enumerate(["w.yaml cannot be read", "have the same name; rename one"]):
        (tmp_path / f"job{number}").mkdir()
        rules = ["widths(file=w.yaml)", *(f"widths(file={tmp_path}/{at}/w.yaml)" for at in "ab")]
        path = write_spec({"local_budgets": rules})
        with pytest.raises(SpecError, match=words):
            bundle(str(path), tmp_path / f"job{number}")
        (tmp_path / "w.yaml").write_text("[1]")


def test_a_file_may_name_some_groups(spec, tmp_path):
    (tmp_path / "w.yaml").write_text("blocks.7.conv: 4")
    rule = f"widths(file={tmp_path / 'w.yaml'})"
    cell = plan(spec({"local_budgets": [rule], "scopes": ["local"]})).cells[0]
    full = cell.baseline.architecture
    assert full.groups.names[7] == "blocks.7.conv"
    widths = (*full.widths[:7], 4, *full.widths[8:])
    assert cell.ratio == cost(full, "parameters", widths) / cost(full, "parameters")
