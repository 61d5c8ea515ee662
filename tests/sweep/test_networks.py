"""Sweeps with networks other than SimpleNet: their keys, their rows, and what can be wrong."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from click.testing import Result
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import results
from prune_core.network_files import load
from prune_core.networks import Architecture
from results import Store
from sweep.errors import SpecError
from sweep.planning.grid import plan

DIGITS = {"source": "digits", "train_images": 120, "test_images": 40, "image_size": 16}
RESNET = {"variant": "resnet20", "width": 0.25}
VGG = {"variant": "vgg11_bn", "width": 0.06}
SIMPLENET = {"variant": "simplenet_310k", "width": 0.125}

Keys = Callable[..., tuple[set[str], set[str], set[str]]]


@pytest.fixture
def keys(spec) -> Keys:
    """Keys of a network's cells: those that a metric ranks, their baseline's, the control's."""

    def find(network: dict[str, Any], **changes: Any) -> tuple[set[str], set[str], set[str]]:
        cells = plan(spec({"network": network, "controls.unpruned": True, **changes})).cells
        return (
            {cell.key for cell in cells if not cell.unpruned},
            {cell.baseline.key for cell in cells},
            {cell.key for cell in cells if cell.unpruned},
        )

    return find


def test_keys_of_a_spec_of_simplenet_are_those_of_before_other_networks(keys):
    digits = {"source": "digits", "train_images": 300}
    ranked, baselines, controls = keys(SIMPLENET, datasets=[digits], ratios=[0.5])
    assert baselines == {"159e9c127b876743"}
    assert controls == {"a269b1cf6fa6bec8"}
    # Those that read statistics changed with STATISTICS_VERSION 2.
    assert ranked == {
        "389ac6212b1f4266",
        "6ded900312cfdeb1",
        "741b4c32bf11ebe9",
        "e64041c189fa5234",
    }


def test_groups_change_the_cells_and_not_the_baseline(keys):
    joined, inner = keys(RESNET), keys(RESNET | {"groups": "inner"})
    assert joined == keys(RESNET | {"groups": "all"})
    assert not joined[0] & inner[0]
    assert joined[1] == inner[1]
    # Its figures are equal, but its row names other groups.
    assert not joined[2] & inner[2]


def test_combine_changes_the_cells_that_a_metric_ranks(keys):
    ways = [keys(RESNET | {"combine": how}) for how in ("mean", "sum", "max")]
    assert ways[0] == keys(RESNET)
    assert len(set.union(*(ranked for ranked, _, _ in ways))) == 3 * len(ways[0][0])
    assert ways[0][1:] == ways[1][1:] == ways[2][1:]


@pytest.mark.parametrize(
    ("network", "without_effect"),
    [
        (RESNET | {"groups": "inner"}, {"combine": "max"}),
        (VGG, {"combine": "max"}),
        (VGG, {"groups": "inner"}),
        (SIMPLENET, {"combine": "sum"}),
        (SIMPLENET, {"groups": "inner"}),
        (RESNET, {"shortcut": "A"}),
        (RESNET, {"options": {"shortcut": "A"}}),
    ],
    ids=str,
)
def test_what_changes_nothing_changes_no_key(network, without_effect, keys):
    large = {"datasets": [DIGITS | {"image_size": 32}]}
    assert keys(network | without_effect, **large) == keys(network, **large)


@pytest.mark.parametrize("network", [RESNET, SIMPLENET], ids=str)
def test_the_size_of_images_changes_the_baseline(network, keys):
    sizes = [None, 32, [32, 32], 48, [40, 56], [56, 40]]
    found = [keys(network, **{"datasets.0.image_size": size}) for size in sizes]
    assert found[0] == found[1] == found[2]
    distinct = found[2:]
    for kind in range(3):
        assert len(set.union(*(of[kind] for of in distinct))) == 4 * len(distinct[0][kind])


def test_options_change_the_baseline(keys):
    assert not keys(RESNET)[1] & keys(RESNET | {"shortcut": "B"})[1]
    assert not keys(RESNET)[1] & keys(RESNET | {"width": 0.5})[1]
    assert not keys(RESNET)[1] & keys(RESNET | {"variant": "resnet56"})[1]


CHANGES = {
    "datasets": [DIGITS],
    "metrics": ["output_l1", "entropy_gaussian"],
    "scopes": ["global"],
    "ratios": [0.4, 0.7],
    "keep": "all",
}
SWEEPS: dict[str, dict[str, Any]] = {
    "A all": {"network": RESNET | {"combine": "max"}},
    "A inner": {"network": RESNET | {"groups": "inner"}},
    "B all": {
        "network": RESNET | {"shortcut": "B"},
        "metrics": ["taylor"],
        "scopes": ["global", "local"],
    },
    "B inner": {
        "network": RESNET | {"shortcut": "B", "groups": "inner"},
        "metrics": ["mutual_information"],
        "ratios": [0.6],
        "controls": {"scratch": True, "unpruned": True},
        "scopes": ["local"],
    },
    "vgg": {
        "network": VGG,
        "metrics": ["hrank"],
        "datasets": [DIGITS | {"image_size": [40, 56]}],
        "scopes": ["global", "local"],
    },
}


@pytest.fixture(scope="module")
def finished(run_digits, tmp_path_factory) -> tuple[Path, dict[str, Result]]:
    """The results folder of all sweeps, one after the other, and what each printed."""
    folder = tmp_path_factory.mktemp("networks") / "runs"
    return folder, {
        name: run_digits(folder, CHANGES | changes | {"name": name.replace(" ", "-")})
        for name, changes in SWEEPS.items()
    }


@pytest.fixture(scope="module")
def frame(finished) -> pd.DataFrame:
    return results.load(finished[0])


def rows_of(frame: pd.DataFrame, name: str) -> pd.DataFrame:
    return frame[frame["sweep"] == name.replace(" ", "-")]


def test_every_cell_is_ok(finished, frame):
    for name, done in finished[1].items():
        assert done.exit_code == 0, (name, done.output)
    counts = {name: len(rows_of(frame, name)) for name in SWEEPS}
    assert counts == {"A all": 4, "A inner": 4, "B all": 4, "B inner": 3, "vgg": 4}
    assert set(frame["status"]) == {"ok"}
    assert frame["key"].is_unique


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("A all", ("resnet20", 0.25, {"shortcut": "A"}, "all", "max", 16, 16)),
        ("A inner", ("resnet20", 0.25, {"shortcut": "A"}, "inner", "mean", 16, 16)),
        ("B all", ("resnet20", 0.25, {"shortcut": "B"}, "all", "mean", 16, 16)),
        ("vgg", ("vgg11_bn", 0.06, {}, "all", "mean", 40, 56)),
    ],
)
def test_a_row_says_which_network_it_was(name, expected, frame):
    for row in rows_of(frame, name).to_dict("records"):
        found = tuple(row[column] for column in ("variant", "width"))
        options = json.loads(row["network_options"])
        size = (row["image_height"], row["image_width"])
        assert (*found, options, row["groups"], row["combine"], *size) == expected
        assert pd.isna(row["weights"])


def test_groups_have_the_names_of_their_first_convolutions(finished, frame):
    columns = ["sweep", "group_names", "widths", "widths_full", "kept"]
    for row in Store(finished[0]).read(columns).to_pylist():
        assert len(row["group_names"]) == len(row["widths"]) == len(row["widths_full"])
        if row["kept"] is not None:
            assert [len(channels) for channels in row["kept"]] == row["widths"]
        if row["sweep"].endswith("inner"):
            assert row["group_names"] == [
                f"layer{stage}.{block}.conv1" for stage in (1, 2, 3) for block in range(3)
            ]
        elif row["sweep"].endswith("all"):
            assert row["group_names"][:2] == ["conv1", "layer1.0.conv1"]
            assert len(row["group_names"]) == 12


def counted(net: nn.Module, size: tuple[int, int]) -> tuple[int, int]:
    """Parameters and multiply-accumulates, counted by torch; a MAC is two operations."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net.eval()(torch.zeros(1, 3, *size))
    operations = counter.get_total_flops()
    return sum(one.numel() for one in net.parameters()), operations // 2


def test_sizes_are_those_of_the_kept_networks(finished, frame):
    for row in frame.to_dict("records"):
        size = (row["image_height"], row["image_width"])
        net = load(finished[0] / "networks" / row["key"]).net
        assert (row["parameters"], row["macs"]) == counted(net, size), row["sweep"]
        options = json.loads(row["network_options"])
        full = Architecture.named(
            row["variant"], 10, row["width"], options=options, image_size=size
        )
        assert (row["parameters_full"], row["macs_full"]) == counted(full.build(), size)
        assert row["parameter_ratio"] == row["parameters"] / row["parameters_full"]
        assert abs(row["parameter_ratio"] - row["ratio"]) < 0.1
        assert (row["macs"] < row["macs_full"]) == (row["metric"] != "unpruned")


def test_a_larger_global_budget_keeps_all_channels_of_a_smaller_one(finished):
    columns = ["sweep", "metric", "scope", "ratio", "kept"]
    rows = Store(finished[0]).read(columns).to_pylist()
    rows = [row for row in rows if row["scope"] == "global"]
    kept = {(row["sweep"], row["metric"], row["ratio"]): row["kept"] for row in rows}
    pairs = {(sweep, metric) for sweep, metric, _ in kept}
    assert len(pairs) == 6
    for pair in pairs:
        small, large = kept[*pair, 0.4], kept[*pair, 0.7]
        assert all(set(few) <= set(many) for few, many in zip(small, large, strict=True))
        assert small != large


def test_sweeps_of_other_groups_share_the_baseline(finished, frame):
    folder, printed = finished
    for option in "AB":
        first, second = (rows_of(frame, f"{option} {groups}") for groups in ("all", "inner"))
        for column in ("baseline_key", "baseline_checksum", "baseline_test_loss"):
            assert set(first[column]) == set(second[column])
            assert len(set(first[column])) == 1
        assert " baseline " in printed[f"{option} all"].stdout
        assert " baseline " not in printed[f"{option} inner"].stdout
    assert len(list((folder / "artifacts" / "baselines").iterdir())) == 3


def test_whoever_trains_the_baseline_the_figures_are_the_same(frame, run_digits, tmp_path):
    # Here the sweep with the inner groups trains it.
    alone = CHANGES | SWEEPS["A inner"] | {"name": "A-inner"}
    done = run_digits(tmp_path / "runs", alone)
    assert done.exit_code == 0, done.output
    after = results.load(tmp_path / "runs").reset_index(drop=True)
    before = rows_of(frame, "A inner").reset_index(drop=True)
    timed = list(before.filter(regex="seconds|latency|_at$").columns)
    pd.testing.assert_frame_equal(after.drop(columns=timed), before.drop(columns=timed))


def test_the_tables_of_channels_and_the_status_know_groups(finished, frame, invoke):
    channels = results.load_channels(finished[0])
    for name, groups in (("A all", 12), ("A inner", 9), ("vgg", 8)):
        chosen = rows_of(frame, name)
        of = channels[channels["key"].isin(chosen["key"])]
        assert of.groupby("key")["layer"].nunique().eq(groups).all()
    done = invoke("status", finished[0])
    assert done.exit_code == 0, done.output
    assert ["4", "4", "0", "0", "0", "-"] in [line.split() for line in done.stdout.splitlines()]


WRONG: dict[str, tuple[dict[str, Any], list[str]]] = {
    "option of another network": (
        {"network": SIMPLENET | {"shortcut": "A"}},
        ["simplenet_310k", "no option 'shortcut'", "allowed: width", "groups, combine, weights"],
    ),
    "misspelt option": (
        {"network": RESNET | {"short_cut": "A"}},
        ["no option 'short_cut'", "allowed: width, shortcut"],
    ),
    "value of an option": ({"network": RESNET | {"shortcut": "C"}}, ["'C'", "allowed: A, B"]),
    "list as an option": (
        {"network": RESNET | {"shortcut": ["A"]}},
        ["option 'shortcut' is ['A']", "a number, a text, true, false or null"],
    ),
    "unknown variant": ({"network.variant": "resnet57"}, ["'resnet57'", "resnet56", "vgg16_bn"]),
    "unknown groups": ({"network.groups": "outer"}, ["network.groups is 'outer'", "'inner'"]),
    "unknown combine": ({"network.combine": "min"}, ["network.combine is 'min'", "'max'"]),
    "size 0": ({"datasets.0.image_size": 0}, ["image_size[0] is 0", "or equal to 8"]),
    "size 5000": ({"datasets.0.image_size": 5000}, ["image_size[0] is 5000", "or equal to 1024"]),
    "size as text": ({"datasets.0.image_size": "48"}, ["image_size is '48'", "[height, width]"]),
    "three sides": ({"datasets.0.image_size": [48, 48, 3]}, ["image_size", "at most 2 items"]),
    "images too small": (
        {"datasets.0.image_size": 8},
        ["digits", "8 x 8 pixels are too small", "16 x 16"],
    ),
    "images too small for VGG": (
        {"network": VGG, "datasets.0.image_size": 16},
        ["digits", "16 x 16 pixels", "too small"],
    ),
    "ratio out of reach of the inner groups": (
        {"network": RESNET | {"groups": "inner"}, "ratios": [0.01]},
        ["ratio 0.01", "lowest reachable", "conv1, layer2.0.conv2, layer3.0.conv2 keep all"],
    ),
}


@pytest.mark.parametrize(("changes", "words"), WRONG.values(), ids=WRONG.keys())
def test_what_is_wrong_with_a_network_is_told(changes, words, spec):
    with pytest.raises(SpecError) as caught:
        plan(spec(changes))
    message = str(caught.value)
    assert [word for word in words if word not in message] == [], message


def test_the_plan_names_channels_that_are_never_removed(spec):
    said = plan(spec({"network": RESNET | {"groups": "inner"}})).notes
    assert len(said) == 1
    assert said[0].startswith("resnet20: conv1, layer2.0.conv2, layer3.0.conv2 keep all channels")
    assert plan(spec({"network": RESNET})).notes == ()
