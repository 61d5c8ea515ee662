"""Budget rules with options, as a spec names them, and widths from a file."""

import json
import pickle

import pytest
import torch

import prune_core as pc
from prune_core.budgets import (
    BUDGETS,
    BudgetChoice,
    BudgetError,
    FixedWidths,
    Floor,
    Importances,
    global_,
    layerwise,
    lengths,
)
from prune_core.cost import parameters

parse = BudgetChoice.parse


@pytest.fixture
def rules():
    """The registry of rules, restored afterwards."""
    before = dict(BUDGETS)
    yield BUDGETS
    BUDGETS.clear()
    BUDGETS.update(before)


@pytest.mark.parametrize(
    ("value", "label", "identity"),
    [
        ("global", "global", "global"),
        ("global(of=parameters)", "global", "global"),
        ("global(of=macs)", "global(of=macs)", ["global", {"of": "macs"}]),
        ({"global": {"of": "macs"}}, "global(of=macs)", ["global", {"of": "macs"}]),
        ({"name": "erk", "of": "macs"}, "erk(of=macs)", ["erk", {"of": "macs"}]),
        ("uniform_parameters", "uniform_parameters", ["uniform_parameters", 2]),
        ("uniform_macs", "uniform_macs", "uniform_macs"),
        ("unpruned", "unpruned", "unpruned"),
        (
            "sensitivity(step=0.05, images=256, of=macs)",
            "sensitivity(of=macs, step=0.05)",
            ["sensitivity", {"of": "macs", "step": 0.05}],
        ),
        ("sensitivity(step=1)", "sensitivity(step=1.0)", ["sensitivity", {"step": 1.0}]),
    ],
)
def test_forms_labels_and_identities(value, label, identity):
    choice = parse(value)
    assert choice.label == str(choice) == label
    assert choice.identity() == json.loads(json.dumps(identity))
    assert parse(label) == choice
    assert pickle.loads(pickle.dumps(choice)) == choice
    assert choice.resolved() == choice
    assert choice.fixed_ratio(pc.Architecture.named("simplenet_310k", 10)) is None


def test_options_at_their_defaults_are_left_out():
    assert parse("global(of=parameters)") == parse("global") == BudgetChoice("global")
    assert hash(parse("global(of=parameters)")) == hash(BudgetChoice("global"))
    assert parse("global(of=macs)") != BudgetChoice("global")
    macs = parse("widths_of(of=macs)")
    assert macs.label_with("output_l1") == "widths_of(output_l1, of=macs)"
    assert BudgetChoice("widths_of").label_with("output_l1") == "widths_of(output_l1)"


def test_what_a_choice_says_of_its_rule(small):
    facts = {
        "global": ("global", "parameters", True),
        "global(of=macs)": ("global", "macs", True),
        "widths_of(of=macs)": ("widths_of", "macs", True),
        "uniform_channels": ("local", "channels", False),
        "uniform_macs": ("local", "macs", False),
        "sensitivity(of=macs)": ("local", "macs", False),
        "unpruned": ("unpruned", "parameters", False),
    }
    for label, expected in facts.items():
        choice = parse(label)
        assert (choice.scope, choice.ratio_of, choice.ranks) == expected
        assert choice.reads_loss == (choice.name == "sensitivity")
        assert choice.loss_images == (256 if choice.reads_loss else 0)
        assert choice.reads_loss or choice.evaluations(small, 0.5, Floor()) == 0
    assert parse("sensitivity(images=64)").loss_images == 64


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("globl", r"budget 'globl' is unknown; did you mean global"),
        ("global(of=channels)", r"option 'of' is 'channels'; allowed: parameters, macs"),
        ("global(step=0.1)", r"budget 'global' has no option 'step'; allowed: of"),
        ("uniform_macs(of=macs)", r"'uniform_macs' has no option 'of'; allowed: none"),
        ("sensitivity(step=0)", r"option 'step' is 0.0; it must lie in \(0, 1\]"),
        ("sensitivity(step=1.5)", r"option 'step' is 1.5; it must lie in \(0, 1\]"),
        ("sensitivity(images=1)", r"option 'images' is 1; it must be 2 or more"),
        ("sensitivity(images=2.5)", r"option 'images' is 2.5; it must be of type int"),
        ("widths", r"budget 'widths' needs a value for its option 'file'"),
        (["global"], r"is not a budget; write a name such as global, or global\(of=macs\)"),
    ],
)
def test_bad_entries_are_refused(value, message):
    with pytest.raises(BudgetError, match=message):
        parse(value)


def test_options_of_a_plugged_in_rule(rules, small):
    @layerwise()
    def all_but(architecture, ratio, floor, *, channels: int = 1):
        """All channels but a few."""
        return tuple(max(1, width - channels) for width in architecture.widths)

    choice = parse("all_but(channels=3)")
    assert choice.label == "all_but(channels=3)"
    assert choice.widths(small, 0.9, Floor(), Importances()) == (5, 3, 9, 6)
    assert parse("all_but").likely_widths(small, 0.9, Floor()) == (7, 5, 11, 8)


def written(folder, text, name="widths.yaml"):
    (folder / name).write_text(text)
    return parse({"widths": {"file": name}}).resolved(folder)


@pytest.mark.parametrize(
    ("name", "text", "widths", "identity"),
    [
        ("widths.yaml", "[4, 6, 3, 1]", (4, 6, 3, 1), [4, 6, 3, 1]),
        ("widths.yaml", "- 4\n- 6\n- 3\n- 1\n", (4, 6, 3, 1), [4, 6, 3, 1]),
        ("widths.json", "[4, 6, 3, 1]", (4, 6, 3, 1), [4, 6, 3, 1]),
        (
            "named.yaml",
            "blocks.3.conv: 2\nblocks.0.conv: 5\n",
            (5, 6, 12, 2),
            {"blocks.0.conv": 5, "blocks.3.conv": 2},
        ),
        ("named.json", '{"blocks.2.conv": 7}', (8, 6, 7, 9), {"blocks.2.conv": 7}),
    ],
)
def test_widths_of_a_file(small, tmp_path, name, text, widths, identity):
    choice = written(tmp_path, text, name)
    (tmp_path / name).unlink()
    # Cells run on machines without the file.
    choice = pickle.loads(pickle.dumps(choice.resolved()))
    ratio = parameters(small, widths) / parameters(small)
    assert choice.fixed_ratio(small) == ratio
    assert choice.identity() == json.loads(json.dumps(["widths", {"widths": identity}]))
    assert choice.label == f"widths(file={name})"
    choice.check(small, ratio, Floor())
    assert choice.widths(small, ratio, Floor(), Importances()) == widths
    assert choice.likely_widths(small, ratio, Floor()) == widths
    scores = [torch.arange(width).double() for width in small.widths]
    kept = choice.kept(small, ratio, Floor(), Importances(scores))
    assert [channels.tolist() for channels in kept] == [
        list(range(full - width, full)) for full, width in zip(small.widths, widths, strict=True)
    ]


def test_the_name_of_the_file_changes_no_cell(tmp_path):
    one, other = (written(tmp_path, "[4, 6, 3, 1]", name) for name in ("a.yaml", "b.json"))
    assert one == other
    assert one.identity() == other.identity()
    assert one != written(tmp_path, "[4, 6, 3, 2]")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[4, 6, 3]", r"widths.yaml has 3 widths, but the network has 4 groups: blocks.0.conv, "),
        ("{conv9: 3}", r"widths.yaml: group 'conv9' is unknown; allowed: blocks.0.conv, blocks.1"),
        ("{blocks.1.conv: 7}", r"group 'blocks.1.conv' has width 7; allowed .*: 2 to 6"),
        ("[8, 6, 12, 1]", r"group 'blocks.3.conv' has width 1; allowed .*2 channels a.*: 2 to 9"),
    ],
)
def test_widths_that_do_not_fit_are_refused(small, tmp_path, text, message):
    choice = written(tmp_path, text)
    for ask in (
        lambda: choice.check(small, 0.5, Floor(2)),
        lambda: choice.widths(small, 0.5, Floor(2), Importances()),
    ):
        with pytest.raises(BudgetError, match=message):
            ask()


def test_a_width_between_steps_is_refused(small, tmp_path):
    choice, floor = written(tmp_path, "[8, 4, 6, 9]"), Floor(round_to=4)
    with pytest.raises(BudgetError, match=r"'blocks.2.conv' has width 6; .* in multiples of 4"):
        choice.widths(small, 0.5, floor, Importances())
    assert written(tmp_path, "[8, 4, 8, 9]").widths(small, 0.5, floor, Importances()) == (
        (8, 4, 8, 9)
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[4, 0, 3, 1]", r"the width at place 2 is 0; it must be a whole number, 1 or more"),
        ("[4, 2.5, 3, 1]", r"the width at place 2 is 2.5"),
        ("[4, true, 3, 1]", r"the width at place 2 is True"),
        ("{blocks.1.conv: many}", r"the width of group 'blocks.1.conv' is 'many'"),
        ("{1: 4}", r"must hold a list of widths, or a mapping"),
        ("", r"must hold a list of widths, or a mapping"),
        ("[]", r"must hold a list of widths, or a mapping"),
        ("{}", r"must hold a list of widths, or a mapping"),
        ("[1, 2", r"widths.yaml cannot be read"),
    ],
)
def test_files_without_widths_are_refused(tmp_path, text, message):
    with pytest.raises(BudgetError, match=message):
        written(tmp_path, text)


def test_a_missing_file_is_refused_and_one_that_was_not_read(tmp_path, small):
    choice = parse("widths(file=nowhere.yaml)")
    with pytest.raises(BudgetError, match=r"nowhere.yaml cannot be read: .*No such file"):
        choice.resolved(tmp_path)
    with pytest.raises(BudgetError, match=r"nowhere.yaml was not read; call BudgetChoice.resolved"):
        choice.identity()
    for ask in (choice.fixed_ratio, lambda shape: choice.check(shape, 0.5, Floor())):
        with pytest.raises(BudgetError, match=r"read by BudgetChoice.resolved"):
            ask(small)
    with pytest.raises(BudgetError, match=r"its option 'file' must be given"):
        BUDGETS["widths"].check(small, 0.5, Floor())
    with pytest.raises(BudgetError, match=r"broken.json cannot be read"):
        written(tmp_path, "{'a': 1}", "broken.json")


def test_a_ratio_that_the_widths_do_not_have_is_refused(small, tmp_path):
    choice = written(tmp_path, "[4, 6, 3, 1]")
    ratio = choice.fixed_ratio(small)
    choice.check(small, round(ratio, 2), Floor())
    with pytest.raises(BudgetError, match=rf"leave {ratio:.4f} of the parameters; .* not 0.9"):
        choice.check(small, 0.9, Floor())


def test_one_shot_takes_a_choice_or_a_name(small, lived_in, coloured, scaling, tmp_path):
    net, images = lived_in(small), coloured(40)
    given = {"preprocessing": scaling, "metric": "output_l1", "compensation": "none"}
    by_name = pc.one_shot(net, images, 0.5, budget="global(of=macs)", **given)
    by_choice = pc.one_shot(net, images, 0.5, budget=parse("global(of=macs)"), **given)
    assert by_name.architecture == by_choice.architecture
    layers = pc.views(net)
    scores = pc.combined(pc.Choice.parse("output_l1")(layers), layers, "mean")
    expected = lengths(global_(scores, small, 0.5, of="macs"))
    assert by_name.architecture.widths == expected != lengths(global_(scores, small, 0.5))
    path = tmp_path / "widths.json"
    path.write_text("[4, 6, 3, 1]")
    fixed = parse({"widths": {"file": str(path)}})
    ratio = fixed.resolved().fixed_ratio(small)
    found = pc.one_shot(net, images, ratio, budget=fixed, **given)
    assert found.architecture.widths == (4, 6, 3, 1)
    with pytest.raises(BudgetError, match=r"of the parameters; give this ratio, not 0.01"):
        pc.one_shot(net, images, 0.01, budget=fixed, **given)
    greedy = pc.one_shot(net, images, 0.5, budget="sensitivity(images=16, step=0.5)", **given)
    widest = max(
        small.groups.sizes.difference(small.widths, g, w - 1) for g, w in enumerate(small.widths)
    )
    assert abs(parameters(greedy.architecture) - 0.5 * parameters(small)) <= widest / 2


def test_fixed_widths_are_values(tmp_path):
    (tmp_path / "w.yaml").write_text("{b: 2, a: 1}")
    found = FixedWidths.read(tmp_path, file="w.yaml")
    assert found == FixedWidths((("a", 1), ("b", 2)), "elsewhere.yaml")
    assert hash(found) == hash(FixedWidths((("a", 1), ("b", 2)), "elsewhere.yaml"))
