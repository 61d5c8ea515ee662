"""Figures show what the tables say, and say so where there is nothing to show."""

import io
import math
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import known_cells
import made_up_sweep
import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from made_up_sweep import Grid
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

import results
from results import figures
from results.figures.differences import spread
from results.figures.panels import title_lines
from results.figures.style import COLOURS, REST, looks
from results.figures.widths import shortened

SMALL = Grid(
    datasets=("cifar10", "svhn"),
    metrics=("random", "output_l1", "entropy_gaussian", "taylor"),
    ratios=(0.2, 0.4, 0.6),
    scopes=(("local", "none"), ("global", "none"), ("global", "layer_zscore")),
)


@pytest.fixture(scope="module")
def frame(tmp_path_factory) -> pd.DataFrame:
    return made_up_sweep.frame(tmp_path_factory.mktemp("small") / "runs", SMALL)


def words(figure: Figure) -> str:
    """All text of a figure."""
    axes = [text.get_text() for place in figure.axes for text in place.texts]
    legends = [text.get_text() for legend in figure.legends for text in legend.get_texts()]
    labels = [f"{place.get_xlabel()}\n{place.get_ylabel()}" for place in figure.axes]
    return "\n".join([*axes, *legends, *labels])


def title(axes) -> str:
    """A panel's title, without its line breaks."""
    return " ".join(axes.get_title("left").split())


def panel(figure: Figure, wanted: str):
    """The panel of `dataset, point`, whatever its network."""
    dataset, _, point = wanted.partition(", ")
    return next(
        place
        for place in figure.axes
        if (words := title(place)).startswith(f"{dataset}, ") and words.endswith(f", {point}")
    )


def drawn(axes, gid: str):
    """The artist of a panel with this name."""
    return next(artist for artist in axes.get_children() if artist.get_gid() == gid)


def own(table: pd.DataFrame, metric: str, scope: str = "local") -> pd.DataFrame:
    chosen = (table["dataset"] == "cifar10") & (table["metric"] == metric)
    return table[chosen & (table["scope"] == scope) & (table["normalisation"] == "none")]


def test_accuracy_has_a_panel_for_each_data_set_and_budget(frame):
    figure = figures.accuracy(frame)
    assert [title(place) for place in figure.axes] == [
        f"{dataset}, simplenet_310k, {point}"
        for dataset in ("cifar10", "svhn")
        for point in ("local", "global, raw scores", "global, layer_zscore")
    ]
    for text in [*SMALL.metrics, "unpruned", "95 % t interval", "parameter ratio", "accuracy, %"]:
        assert text in words(figure)


def test_accuracy_draws_the_means_and_their_intervals(frame):
    axes = panel(figures.accuracy(frame), "cifar10, local")
    table = own(results.accuracy_table(frame), "taylor").sort_values("ratio")
    cells = own(frame, "taylor")
    at = sorted(SMALL.metrics).index("taylor")
    line = drawn(axes, f"metric{at}-line")
    np.testing.assert_allclose(line.get_ydata(), 100 * table["mean"])
    # Where it really is, not where it was to be.
    achieved = cells.groupby("ratio")["parameter_ratio"].mean()
    np.testing.assert_allclose(line.get_xdata(), achieved)
    band = drawn(axes, f"metric{at}-band").get_paths()[0].vertices
    for _, row in table.iterrows():
        for end in ("low", "high"):
            near = np.abs(band - [achieved[row["ratio"]], 100 * row[end]]).max(axis=1)
            assert near.min() < 1e-9
    control = next(line for line in axes.lines if line.get_label() == "unpruned")
    assert control.get_ydata()[0] == pytest.approx(100 * cells["baseline_test_top1"].mean())


def test_an_axis_of_one_ratio_is_not_as_narrow_as_its_error(frame):
    of_one = figures.accuracy(frame[frame["ratio"] == 0.4])
    for place in of_one.axes:
        low, high = place.get_xlim()
        assert low < 0.4 < high
        assert high - low == pytest.approx(0.1)
    low, high = figures.accuracy(frame).axes[0].get_xlim()
    assert low < 0.2
    assert high > 0.6


@pytest.mark.parametrize("at", ["pruned", "recalibrated"])
@pytest.mark.parametrize("split", ["validation", "test"])
def test_accuracy_of_every_stage_and_split(at, split, frame):
    figure = figures.accuracy(frame, at, split)
    line = drawn(panel(figure, "cifar10, local"), "metric1-line")
    table = own(results.accuracy_table(frame, at, split), sorted(SMALL.metrics)[1])
    np.testing.assert_allclose(sorted(line.get_ydata()), sorted(100 * table["mean"]))
    assert f"{split} accuracy" in words(figure)


@pytest.mark.parametrize(("seeds", "said"), [((0,), "one seed"), ((0, 1), "between the two")])
def test_few_seeds_are_said_to_be_few(seeds, said, tmp_path):
    grid = Grid(datasets=("svhn",), metrics=("random", "taylor"), ratios=(0.2, 0.5), seeds=seeds)
    frame = made_up_sweep.frame(tmp_path / "runs", grid)
    figure = figures.accuracy(frame)
    assert said in words(figure)
    bands = [artist for artist in figure.axes[0].collections if "band" in str(artist.get_gid())]
    assert len(bands) == (0 if len(seeds) == 1 else 2)
    if bands:
        # Of two seeds: from one to the other.
        cells = frame[frame["metric"] == "random"]["finetuned_test_top1"]
        heights = bands[0].get_paths()[0].vertices[:, 1]
        assert heights.max() == pytest.approx(100 * cells.max())
        assert heights.min() == pytest.approx(100 * cells.min())


def test_collapsed_points_are_hollow(frame):
    first = (frame["metric"] == "taylor") & (frame["ratio"] == 0.2) & (frame["scope"] == "local")
    marked = frame.assign(collapsed=(first & (frame["seed"] == 1)).astype("boolean"))
    figure = figures.accuracy(marked)
    axes = panel(figure, "cifar10, local")
    at = sorted(SMALL.metrics).index("taylor")
    hollow, full = drawn(axes, f"metric{at}-collapsed"), drawn(axes, f"metric{at}-dots")
    assert (len(hollow.get_xdata()), len(full.get_xdata())) == (1, 2)
    assert to_rgb(hollow.get_markerfacecolor()) == (1, 1, 1)
    assert "hollow" in words(figure)
    assert "hollow" not in words(figures.accuracy(frame.assign(collapsed=False)))


def test_two_studies_have_panels_of_their_own(frame):
    both = pd.concat([frame, frame.assign(width=0.5, key=frame["key"].str[::-1])])
    titles = [title(place) for place in figures.accuracy(both).axes]
    assert "cifar10, simplenet_310k (width 0.5), local" in titles
    assert "cifar10, simplenet_310k, local" in titles
    assert len(set(titles)) == 12


def test_a_panel_of_channel_ratios_says_so(frame):
    channels = frame.assign(budget="uniform_channels", ratio_of="channels")
    channels = channels[channels["scope"] == "local"]
    titles = [title(place) for place in figures.accuracy(channels).axes]
    assert titles
    assert all(found.endswith("uniform_channels, ratio of channels") for found in titles)


def test_differences_draw_no_two_ratios_alike(frame):
    ratios = [at / 10 for at in range(1, 10)]
    many = pd.concat([frame[frame["ratio"] == 0.4].assign(ratio=ratio) for ratio in ratios])
    handles = figures.differences(many, ratios=ratios).legends[0].legend_handles[: len(ratios)]
    assert len({(one.get_color(), one.get_marker()) for one in handles}) == len(ratios)


def test_differences_are_those_of_the_table(frame):
    figure = figures.differences(frame, "output_l1", ratios=[0.2])
    axes = panel(figure, "cifar10, local")
    table = results.paired_difference(frame, None, "output_l1")
    rows = own(table[table["ratio"] == 0.2], "entropy_gaussian")
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert sorted(names) == ["entropy_gaussian", "random", "taylor"]
    dots = drawn(axes, "ratio0")
    at = np.round(dots.get_ydata()).tolist().index(names.index("entropy_gaussian"))
    assert dots.get_xdata()[at] == pytest.approx(rows["difference_points"].item())
    bars = next(found for found in axes.collections if len(found.get_paths()) == 3)
    ends = bars.get_segments()[at][:, 0]
    assert sorted(ends) == pytest.approx([rows["low_points"].item(), rows["high_points"].item()])


def test_an_interval_beyond_the_axis_ends_in_an_arrow(frame):
    wild = (frame["metric"] == "taylor") & (frame["seed"] == 0)
    shifted = frame.assign(
        finetuned_test_top1=frame["finetuned_test_top1"].where(~wild, 0.01 * frame["ratio"])
    )
    arrows = [
        line.get_marker()
        for line in panel(figures.differences(shifted), "cifar10, local").lines
        if line.get_marker() in "<>"
    ]
    assert {"<", ">"} == set(arrows)


def test_three_ratios_are_compared_unless_told(frame):
    assert "\n".join(f"ratio of parameters {at}" for at in (0.2, 0.4, 0.6)) in words(
        figures.differences(frame)
    )
    assert figures.differences(frame, ratios=[0.4]).legends[0].get_texts()[0].get_text() == (
        "ratio of parameters 0.4"
    )
    assert spread([0.1 * n for n in range(9, 0, -1)]) == pytest.approx([0.1, 0.5, 0.9])
    # Nothing was removed at a ratio of 1.
    assert spread([1.0, 0.3]) == [0.3]
    assert spread([1.0]) == [1.0]


def test_kept_widths_are_fractions_of_the_layers(frame):
    figure = figures.kept_widths(frame)
    values = panel(figure, "cifar10, global, raw scores").collections[0].get_array()
    cells = own(frame[frame["ratio"] == 0.2], "random", "global")
    expected = [
        100 * np.mean([widths[layer] / full[layer] for widths, full in pairs])
        for pairs in [list(zip(cells["widths"], cells["widths_full"], strict=True))]
        for layer in range(13)
    ]
    at = sorted(SMALL.metrics).index("random")
    np.testing.assert_allclose(values[at], expected)
    assert "0.2" in words(figure)
    assert labels(panel(figure, "cifar10, local"))[:2] == ["blocks.0.conv", "blocks.1.conv"]
    unnamed = figures.kept_widths(frame.assign(group_names=None))
    assert labels(panel(unnamed, "cifar10, local")) == [str(at) for at in range(1, 14)]
    wider = figures.kept_widths(frame, 0.6)
    assert panel(wider, "cifar10, local").collections[0].get_array().mean() > values.mean()


def labels(axes) -> list[str]:
    """The names below, or above, the columns of a heat map."""
    return [label.get_text() for label in axes.get_xticklabels()]


def residual(folder: Path, network: made_up_sweep.Network, **changes) -> pd.DataFrame:
    """A study of a residual network on CIFAR-10."""
    points = {"metrics": ("random", "output_l1", "taylor"), "ratios": (0.3,)}
    scopes = (("local", "none"), ("global", "none"))
    grid = Grid(("cifar10",), **points, scopes=scopes, network=network, **changes)
    return made_up_sweep.frame(folder, grid)


def overlaps(axes) -> bool:
    """Whether two neighbouring names of columns overlap when they are drawn."""
    axes.figure.canvas.draw()
    boxes = [label.get_window_extent() for label in axes.get_xticklabels()]
    return any(one.x1 > other.x0 for one, other in pairwise(boxes))


@pytest.mark.parametrize(
    ("groups", "count", "named"), [("all", 57, "conv1"), ("inner", 54, "layer1.0.conv1")]
)
def test_every_group_of_a_deep_network_has_its_name(groups, count, named, tmp_path):
    network = made_up_sweep.resnet(110, groups)
    figure = figures.kept_widths(residual(tmp_path / "runs", network, groups=groups))
    places = [place for place in figure.axes if title(place)]
    assert [title(place) for place in places] == [
        "cifar10, resnet110 (shortcut A), local",
        "cifar10, resnet110 (shortcut A), global",
    ]
    for place in places:
        assert labels(place) == list(network.names)
        assert (len(labels(place)), labels(place)[0]) == (count, named)
        assert labels(place)[-1] == "layer3.17.conv1"
        assert not overlaps(place)
    assert figure.get_figwidth() < 13


def test_of_very_many_groups_some_are_named(tmp_path):
    network = made_up_sweep.resnet(302)
    figure = figures.kept_widths(residual(tmp_path / "runs", network))
    shown = labels(figure.axes[0])
    step = len(network.names) // len(shown) + 1
    assert shown == list(network.names[::step])
    assert 1 < step < 4
    assert not overlaps(figure.axes[0])


def test_long_names_of_groups_lose_what_all_share_and_then_their_beginning():
    short = ["conv1", "layer3.17.conv1"]
    assert shortened(short) == short
    nested = [f"model.backbone.encoder.{name}" for name in short]
    assert shortened(nested) == short
    long = [f"stage{at}.{'very_' * 9}long{at}" for at in range(2)]
    assert [len(name) for name in shortened(long)] == [24, 24]
    assert [name[-5:] for name in shortened(long)] == ["long0", "long1"]
    assert all(name.startswith("\N{HORIZONTAL ELLIPSIS}") for name in shortened(long))
    assert shortened([1, 2]) == ["1", "2"]
    # A name that is the beginning of all others stays a name.
    assert shortened(["a" * 30, f"{'a' * 30}.b"])[0] == shortened(["a" * 30])[0]


def test_studies_of_other_groups_have_panels_of_their_own(tmp_path):
    rows = []
    for at, (network, changes) in enumerate(
        [
            (made_up_sweep.resnet(20), {}),
            (made_up_sweep.resnet(20), {"combine": "max"}),
            (made_up_sweep.resnet(20, "inner"), {"groups": "inner"}),
            (made_up_sweep.SIMPLENET, {}),
        ]
    ):
        points = {"metrics": ("random", "output_l1"), "ratios": (0.3, 0.6), "first": 100 * at}
        rows += made_up_sweep.rows(Grid(("svhn",), **points, network=network, **changes))
    table = results.load(made_up_sweep.write(tmp_path / "runs", rows))
    studies = [
        "svhn, resnet20 (shortcut A), all groups, max over producers",
        "svhn, resnet20 (shortcut A), all groups, mean over producers",
        "svhn, resnet20 (shortcut A), inner groups",
        "svhn, simplenet_310k",
    ]
    for draw in (figures.accuracy, figures.differences, figures.kept_widths):
        found = [title(place) for place in draw(table).axes if title(place)]
        assert found == [f"{study}, local" for study in studies]
    fronts = {title(place) for place in figures.pareto_fronts(table).axes}
    assert fronts == set(studies)


def test_titles_are_broken_where_they_are_too_long_for_their_panel():
    words = "cifar10, resnet56 (shortcut A), global, raw scores"
    lines = title_lines(words, 2.8)
    assert ", ".join(line.removesuffix(",") for line in lines) == words
    assert len(lines) == 2
    assert lines[1] == "global, raw scores"
    assert title_lines(words, 9.0) == [words]
    # A part that is longer than the panel is broken at its spaces, and before its options.
    assert title_lines("resnet56 (shortcut A)", 1.2) == ["resnet56", "(shortcut A)"]
    name = "least_squares_sequential(images=2048)"
    assert title_lines(f"local, {name}", 2.8) == [
        "local, least_squares_sequential",
        "(images=2048)",
    ]
    assert title_lines(name, 3.6) == [name]


def test_metrics_share_a_row_where_all_widths_are_alike(frame):
    figure = figures.kept_widths(frame[frame["scope"] == "local"])
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["every metric"]


def test_agreement_is_the_mean_over_layers_and_seeds():
    rows = [("d", 0, 0, "a", "b", 0.5), ("d", 1, 3, "a", "b", 0.1), ("d", 0, 0, "a", "c", math.nan)]
    names = ["dataset", "seed", "layer", "metric", "other_metric", "correlation"]
    figure = figures.agreement(pd.DataFrame(rows, columns=names))
    axes = figure.axes[0]
    order = [label.get_text() for label in axes.get_yticklabels()]
    values = np.ma.filled(axes.collections[0].get_array(), np.nan)
    a, b, c = (order.index(name) for name in "abc")
    assert values[a, b] == values[b, a] == pytest.approx(0.3)
    assert math.isnan(values[a, c])
    assert np.diagonal(values).tolist() == [1, 1, 1]
    assert sorted(text.get_text() for text in axes.texts) == ["0.3", "0.3"]
    named = figures.agreement(pd.DataFrame(rows, columns=names), {"d": "resnet56"})
    assert title(named.axes[0]) == "d resnet56"


def test_similar_metrics_stand_side_by_side():
    pairs = {("a", "c"): 0.9, ("b", "d"): 0.8}
    rows = [
        ("d", 0, 0, one, other, pairs.get((one, other), 0.0))
        for one, other in ("ab", "ac", "ad", "bc", "bd", "cd")
    ]
    names = ["dataset", "seed", "layer", "metric", "other_metric", "correlation"]
    figure = figures.agreement(pd.DataFrame(rows, columns=names))
    order = "".join(label.get_text() for label in figure.axes[0].get_yticklabels())
    assert abs(order.index("a") - order.index("c")) == abs(order.index("b") - order.index("d")) == 1


def test_the_front_goes_through_what_nothing_beats(frame):
    figure = figures.pareto_fronts(frame)
    table = results.pareto(frame, "macs")
    table = table[(table["dataset"] == "cifar10") & table["on_front"]].sort_values("macs")
    axes = next(
        place
        for place in figure.axes
        if title(place) == "cifar10, simplenet_310k" and "multiply" in place.get_xlabel()
    )
    line = drawn(axes, "front")
    assert line.get_drawstyle() == "steps-post"
    assert line.get_visible()
    np.testing.assert_allclose(line.get_xdata(), table["macs"] / 1e6)
    np.testing.assert_allclose(line.get_ydata(), 100 * table["accuracy"])
    assert len(figure.axes) == 8
    assert "a made-up processor, 1 thread" in words(figure)


def test_costs_that_were_not_measured_have_no_panel(frame):
    without = frame.assign(latency_1_ms=math.nan, latency_256_ms=math.nan)
    assert len(figures.pareto_fronts(without).axes) == 4
    older = frame.drop(columns=[name for name in frame if name.startswith("latency")])
    assert len(figures.pareto_fronts(older).axes) == 4


def history() -> pd.DataFrame:
    """Two epochs of two baselines and of two cells that differ in the seed."""
    rows = []
    for seed in (0, 1):
        baseline = {"dataset": "svhn", "seed": seed, "baseline_key": f"b{seed}"}
        cell = {"metric": "taylor", "scope": "local", "budget": "uniform_parameters"}
        cell |= {"key": f"k{seed}", "normalisation": "none", "compensation": "none"}
        cell |= {"finetune": "finetune", "schedule": "one_shot", "step": None}
        cell |= {"ratio": 0.3, "ratio_of": "parameters"}
        for epoch in (1, 2):
            loss = 2.0 / epoch + seed
            rows.append(baseline | {"stage": "baseline", "epoch": epoch, "loss": loss})
            rows.append(baseline | cell | {"stage": "finetune", "epoch": epoch, "loss": loss / 4})
    return pd.DataFrame(rows)


def test_training_has_a_curve_for_each_baseline_and_metric():
    figure = figures.training_curves(history())
    baselines = panel(figure, "svhn, baselines")
    assert [line.get_ydata().tolist() for line in baselines.lines] == [[2, 1], [3, 2]]
    cells = panel(figure, "svhn, local, fine-tuning at 0.3 of parameters")
    assert [line.get_ydata().tolist() for line in cells.lines] == [[0.625, 0.375]]
    assert "taylor" in words(figure)
    assert "random" not in words(figure)
    named = figures.training_curves(history(), networks={"svhn": "resnet56 (shortcut B)"})
    assert {title(place) for place in named.axes} == {
        "svhn, resnet56 (shortcut B), baselines",
        "svhn, resnet56 (shortcut B), local, fine-tuning at 0.3 of parameters",
    }
    (line,) = panel(
        figures.training_curves(history(), metrics=["apoz", "taylor"]), title(cells)
    ).lines
    assert (
        line.get_color() == looks(["apoz", "taylor"])["taylor"].colour != cells.lines[0].get_color()
    )


def test_curves_of_training_are_whole_and_epochs_are_whole_numbers():
    one = history()[history()["epoch"] == 1]
    for told, epochs in ((history(), [1, 2]), (one, [1])):
        figure = figures.training_curves(told)
        for axes in figure.axes:
            low, high = axes.get_xlim()
            assert [at for at in axes.get_xticks() if low <= at <= high] == epochs
            highest = max(line.get_ydata().max() for line in axes.lines)
            assert axes.get_ylim() == (0, pytest.approx(1.08 * highest))


def test_fronts_tell_budgets_apart_and_are_wider_than_high(frame):
    figure = figures.pareto_fronts(frame)
    assert figure.get_figwidth() > figure.get_figheight()
    table = results.pareto(frame, "parameters")
    table = table[table["on_front"] & (table["dataset"] == "cifar10")]
    axes = figure.axes[0]
    shown = {
        (round(1e3 * x), line.get_fillstyle())
        for line in axes.lines
        if "front" in str(line.get_gid()) and line.get_marker() != "None"
        for x in line.get_xdata()
    }
    fills = {"local": "full", "none": "none", "layer_zscore": "left"}
    expected = {
        (
            round(row["parameters"]),
            fills["local" if row["scope"] == "local" else row["normalisation"]],
        )
        for _, row in table[table["metric"] != "unpruned"].iterrows()
    }
    assert shown == expected
    assert len({fill for _, fill in expected}) > 1
    legend = words(figure)
    for rule in ("filled: local", "hollow: global, raw scores", "left half: global, layer_zscore"):
        assert rule in legend
    alone = words(figures.pareto_fronts(frame[frame["scope"] == "local"]))
    assert "filled" not in alone


def test_trainings_of_two_studies_are_not_averaged():
    other = history().assign(key=lambda rows: rows["key"] + "x")
    with pytest.raises(ValueError, match=r"taylor has two trainings for svhn, seed 0, .* 0\.3"):
        figures.training_curves(pd.concat([history(), other]))


@pytest.mark.parametrize(
    ("draw", "said"),
    [
        (figures.accuracy, "No cell is ok"),
        (figures.differences, "No cell of output_l1 is ok"),
        (figures.kept_widths, "No cell is ok"),
        (figures.pareto_fronts, "No cell is ok"),
    ],
)
@pytest.mark.parametrize("rows", [0, 3])
def test_figures_without_data_say_so(draw, said, rows, frame):
    assert said in words(draw(frame.head(rows).assign(status="failed")))


def test_few_metrics_have_room_for_their_names(frame):
    few = frame[frame["metric"].isin(["output_l1", "random", "taylor"])]
    figure = figures.differences(few, ratios=[0.2, 0.4])
    figure.draw_without_rendering()
    heights = [axes.get_position().height * figure.get_figheight() for axes in figure.axes]
    # Inches for each of the two other metrics.
    assert min(heights) / 2 > 0.18


def test_other_figures_without_data_say_so(frame):
    empty = pd.DataFrame(columns=["dataset", "metric", "other_metric", "correlation"])
    assert "nothing to compare" in words(figures.agreement(empty))
    assert "no training to draw" in words(figures.training_curves(history().head(0)))
    assert "No cell of ratio 0.9" in words(figures.kept_widths(frame, 0.9))
    alone = frame[frame["metric"] == "output_l1"]
    assert "the only metric" in words(figures.differences(alone))


def test_22_metrics_look_different_and_keep_their_look():
    made = looks(made_up_sweep.METRICS)
    assert len({(look.colour, look.dash, look.marker) for look in made.values()}) == 22
    assert len({(look.colour, look.dash) for look in made.values()}) == 22
    assert looks(reversed(made_up_sweep.METRICS)) == made
    assert made["random"].colour not in COLOURS


def test_saved_figures_are_the_same_bytes(frame, tmp_path):
    first = figures.save(figures.differences(frame.head(60)), tmp_path / "a.b" / "one")
    second = figures.save(figures.differences(frame.head(60)), str(tmp_path / "two"))
    assert [path.name for path in first] == ["one.png", "one.svg"]
    for one, other in zip(first, second, strict=True):
        assert one.read_bytes() == other.read_bytes()
    assert b"<dc:date>" not in first[1].read_bytes()


def test_the_users_own_settings_change_nothing_and_stay(frame, tmp_path):
    plain = figures.save(figures.kept_widths(frame.head(60)), tmp_path / "plain")
    with mpl.rc_context({"font.size": 30, "axes.facecolor": "red", "lines.linewidth": 9}):
        before = dict(mpl.rcParams)
        other = figures.save(figures.kept_widths(frame.head(60)), tmp_path / "other")
        assert dict(mpl.rcParams) == before
    assert plain[0].read_bytes() == other[0].read_bytes()


def test_no_pyplot_is_loaded(tmp_path):
    code = "import sys; from results import figures; print('matplotlib.pyplot' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(results.__file__).parents[1],
    )
    assert done.stdout == "False\n"


def macs_notes(axes) -> list[str]:
    found = [text.get_text() for text in axes.texts if text.get_gid() == "macs"]
    return [" ".join(text.replace("\N{NO-BREAK SPACE}", " ").split()) for text in found]


def test_figures_at_a_parameter_ratio_say_the_macs_that_are_left(frame):
    left = own(frame, "random", "global").groupby("ratio")
    left = {ratio: (rows["macs"] / rows["macs_full"]).mean() for ratio, rows in left}
    every = frame.query("dataset == 'cifar10' and scope == 'global' and normalisation == 'none'")
    every = (every["macs"] / every["macs_full"]).groupby([every["ratio"], every["metric"]]).mean()
    low, high = every.groupby("ratio").min(), every.groupby("ratio").max()
    (note,) = macs_notes(panel(figures.accuracy(frame), "cifar10, global, raw scores"))
    assert note == (
        f"MACs left: {low[0.2]:.2f} to {high[0.2]:.2f} at 0.2, "
        f"{low[0.6]:.2f} to {high[0.6]:.2f} at 0.6"
    )
    (note,) = macs_notes(
        panel(figures.differences(frame, ratios=[0.4]), "cifar10, global, raw scores")
    )
    assert note == f"MACs left: {low[0.4]:.2f} to {high[0.4]:.2f} at 0.4"
    # Local widths do not depend on the metric.
    (note,) = macs_notes(panel(figures.differences(frame, ratios=[0.4]), "cifar10, local"))
    assert " to " not in note
    names = sorted(SMALL.metrics)
    rows = macs_notes(panel(figures.kept_widths(frame), "cifar10, global, raw scores"))
    assert rows[names.index("random")] == f"{left[0.2]:.2f}"
    assert len(rows) == len(names)


def test_without_macs_figures_say_nothing_of_them(frame):
    without = frame.assign(macs=pd.array([None] * len(frame), dtype="Int64"))
    for draw in (figures.accuracy, figures.differences, figures.kept_widths):
        assert macs_notes(draw(without).axes[0]) in ([], [""])


def test_the_fine_tuned_unpruned_network_is_in_no_figure(tmp_path):
    grid = Grid(("svhn",), ("random", "output_l1"), (0.2, 0.6))
    rows = [*made_up_sweep.rows(grid), *made_up_sweep.controls(grid)]
    both = results.load(made_up_sweep.write(tmp_path / "runs", rows))
    without = both[both["metric"] != "unpruned"]
    assert len(both) == len(without) + 3
    for draw in (figures.accuracy, figures.differences, figures.kept_widths):
        with_control, expected = draw(both), draw(without)
        assert words(with_control) == words(expected)
        assert len(with_control.axes) == len(expected.axes)


OTHERS = ("least_squares", "least_squares_sequential(images=2048)")


@pytest.fixture(scope="module")
def both(compensated, tmp_path_factory) -> pd.DataFrame:
    """The cells of CIFAR-10 without and with compensation."""
    scopes = (("local", "none"), ("global", "none"))
    grid = Grid(("cifar10",), SMALL.metrics, SMALL.ratios, scopes=scopes)
    folder = tmp_path_factory.mktemp("both") / "runs"
    return results.load(made_up_sweep.write(folder, compensated(grid, *OTHERS)))


def compensation_of(table: pd.DataFrame, name: str) -> pd.DataFrame:
    return table[table["compensation"] == name]


@pytest.mark.parametrize("draw", [figures.accuracy, figures.differences])
def test_each_compensation_has_panels_of_its_own(draw, both):
    figure = draw(both)
    # A long name is broken before its options.
    found = [title(place).replace("sequential (", "sequential(") for place in figure.axes]
    assert found == [
        f"cifar10, simplenet_310k, {scope}, {compensation}"
        for scope in ("local", "global")
        for compensation in ("no compensation", *OTHERS)
    ]
    # What a panel shows is what it shows without the others.
    alone = draw(compensation_of(both, "least_squares"))
    assert [title(place) for place in alone.axes] == [
        f"cifar10, simplenet_310k, {scope}, least_squares" for scope in ("local", "global")
    ]
    for name in ("local", "global"):
        places = [panel(one, f"cifar10, {name}, least_squares") for one in (figure, alone)]
        shown = [[line.get_xydata().tolist() for line in place.lines] for place in places]
        assert shown[0] == shown[1]


def test_compensations_do_not_compete_on_a_front(both):
    fronts = figures.pareto_fronts(both).axes
    # A long name is broken before its options.
    found = {title(place).replace("sequential (", "sequential(") for place in fronts}
    names = ("no compensation", *OTHERS)
    assert found == {f"cifar10, simplenet_310k, {name}" for name in names}
    alone = figures.pareto_fronts(compensation_of(both, "least_squares"))
    assert {title(place) for place in alone.axes} == {"cifar10, simplenet_310k, least_squares"}


def test_widths_do_not_depend_on_compensation(both, tmp_path):
    plain = compensation_of(both, "none")
    paths = [
        figures.save(figures.kept_widths(table), tmp_path / name)[0]
        for name, table in (("both", both), ("plain", plain))
    ]
    assert paths[0].read_bytes() == paths[1].read_bytes()
    # A metric that ran with compensation alone has its widths too.
    lacking = both[(both["metric"] != "taylor") | (both["compensation"] != "none")]
    assert figures.save(figures.kept_widths(lacking), tmp_path / "lacking")[0].read_bytes() == (
        paths[1].read_bytes()
    )


@pytest.mark.parametrize(
    "draw", [figures.accuracy, figures.differences, figures.kept_widths, figures.pareto_fronts]
)
def test_figures_without_compensation_say_nothing_of_it(draw, frame, tmp_path):
    unsaid = frame.assign(compensation=frame["compensation"].where(frame["compensation"].isna()))
    assert unsaid["compensation"].isna().all()
    paths = [
        figures.save(draw(table), tmp_path / f"{at}")[1]
        for at, table in enumerate((unsaid, frame.assign(compensation="none")))
    ]
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert not [place for place in draw(frame).axes if "compensation" in title(place)]


def test_training_has_panels_for_each_compensation():
    other = history().assign(compensation="least_squares", key="x")
    other["loss"] *= 2
    told = pd.concat([history(), other[other["stage"] == "finetune"]])
    figure = figures.training_curves(told)
    start = "svhn, local"
    end = "fine-tuning at 0.3 of parameters"
    shown = {
        name: panel(figure, f"svhn, local, {name}, {end}").lines[0].get_ydata().tolist()
        for name in ("no compensation", "least_squares")
    }
    assert shown == {"no compensation": [0.625, 0.375], "least_squares": [1.25, 0.75]}
    assert title(figure.axes[1]).startswith(f"{start}, no compensation")


def test_without_training_draws_both_sides_after_recalibration(both):
    figure = figures.without_training(both)
    assert [title(place) for place in figure.axes] == [
        f"cifar10, simplenet_310k, {scope}, {compensation}"
        for scope in ("local", "global")
        for compensation in OTHERS
    ]
    table = results.accuracy_table(both, "recalibrated")
    at = sorted(SMALL.metrics).index("taylor")
    axes = panel(figure, "cifar10, local, least_squares")
    for name, drawing in (("least_squares", "line"), ("none", "pale")):
        means = own(compensation_of(table, name), "taylor").sort_values("ratio")
        line = drawn(axes, f"metric{at}-{drawing}")
        np.testing.assert_allclose(line.get_ydata(), 100 * means["mean"])
        np.testing.assert_allclose(line.get_xdata(), means["parameter_ratio"])
    pale, strong = (drawn(axes, f"metric{at}-{name}") for name in ("pale", "line"))
    assert pale.get_color() == strong.get_color()
    assert pale.get_alpha() < 1
    assert strong.get_alpha() is None
    # The reader sees both sides: all means lie within the axes.
    low, high = axes.get_ylim()
    assert low <= 100 * table["mean"].min()
    assert 100 * table["mean"].max() <= high
    said = words(figure)
    for word in (
        "pale: without compensation",
        "95 % t interval",
        "unpruned",
        "before any training",
    ):
        assert word in said


def test_without_training_names_the_best_metric_and_draws_it_thick(both):
    table = results.accuracy_table(both, "recalibrated")
    local = table[table["scope"] == "local"]
    axes = panel(figures.without_training(both), "cifar10, local, least_squares")
    (note,) = macs_notes(axes)
    means = {
        name: compensation_of(local, name).groupby("metric")["mean"].mean()
        for name in ("least_squares", "none")
    }
    assert note == (
        f"highest mean: {means['least_squares'].idxmax()} "
        f"{100 * means['least_squares'].max():.1f} %, without compensation: "
        f"{means['none'].idxmax()} {100 * means['none'].max():.1f} %"
    )
    thick = [line.get_label() for line in axes.lines if line.get_linewidth() == 3]
    assert thick == [means["least_squares"].idxmax()]


def test_a_metric_that_lacks_a_ratio_is_not_the_best_of_the_mean(both):
    good = (both["metric"] == "taylor") & (both["compensation"] == "least_squares")
    shifted = both.assign(recalibrated_test_top1=both["recalibrated_test_top1"].where(~good, 0.99))
    lacking = shifted[~(good & (shifted["ratio"] == 0.2))]
    for table, best in ((shifted, True), (lacking, False)):
        axes = panel(figures.without_training(table), "cifar10, local, least_squares")
        assert macs_notes(axes)[0].startswith("highest mean: taylor 99.0 %") == best


def in_colour(axes) -> list[str]:
    """The metrics of a panel whose curves are not grey, in the order of its legend."""
    named = [text.get_text() for text in axes.get_legend().get_texts()]
    lines = [line for line in axes.lines if str(line.get_gid()).endswith("-line")]
    coloured = {line.get_label() for line in lines if line.get_color() != REST}
    assert coloured == set(named)
    bands = [found for found in axes.collections if "band" in str(found.get_gid())]
    assert sum(band.get_alpha() > 0 for band in bands) == len(named)
    assert len(bands) == len(lines)
    return named


def test_of_many_metrics_the_best_three_and_the_controls_are_in_colour(compensated, tmp_path):
    grid = Grid(("cifar10",), made_up_sweep.METRICS[:16], (0.3, 0.6))
    table = results.load(made_up_sweep.write(tmp_path / "runs", compensated(grid, OTHERS[0])))
    plain = compensation_of(table, "none")
    (axes,) = figures.accuracy(plain).axes
    means = results.accuracy_table(plain).groupby("metric")["mean"].mean()
    best = means.sort_values(ascending=False)
    expected = {*best.index[:3], "random", "output_l1"}
    assert in_colour(axes) == [name for name in best.index if name in expected]
    # What is asked for comes forward, in every figure of accuracies.
    worst = best.index[-1]
    assert worst not in expected
    for draw in (figures.accuracy, figures.without_training):
        (axes,) = draw(compensation_of(table, OTHERS[0]), forward=[worst]).axes
        assert worst in in_colour(axes)
        (line,) = (line for line in axes.lines if line.get_label() == worst)
        assert line.get_linewidth() > 2
        with pytest.raises(ValueError, match="forward has 'nothing'; allowed: activation_l1, apoz"):
            draw(table, forward=["nothing"])
    # The names below the panels cover neither these nor the next line of panels.
    figure = figures.accuracy(plain)
    figure.savefig(io.BytesIO())
    box = figure.axes[0].get_legend().get_window_extent()
    assert box.y1 < figure.axes[0].get_window_extent().y0
    assert box.y0 > figure.legends[0].get_window_extent().y1


def test_without_training_needs_cells_with_compensation(both, frame):
    for table in (frame, compensation_of(both, "none"), both.assign(status="failed")):
        assert "No cell with compensation is ok" in words(figures.without_training(table))
    # Without its counterpart, a network is drawn all the same.
    alone = figures.without_training(compensation_of(both, "least_squares"))
    assert len(alone.axes) == 2
    assert drawn(alone.axes[0], "metric0-line").get_ydata().size == 3
    assert drawn(alone.axes[0], "metric0-pale").get_ydata().size == 0


def curves(figure: Figure) -> dict[str, tuple[str, str]]:
    """The id and the colour of each metric's curve."""
    lines = [line for place in figure.axes for line in place.lines]
    return {
        line.get_label(): (line.get_gid(), line.get_color())
        for line in lines
        if str(line.get_gid()).endswith("-line")
    }


def test_without_training_metrics_look_as_in_the_other_figures():
    rows = [
        known_cells.cell(metric, seed, 0.5, compensation=compensation)
        for metric in ("output_l1", "taylor")
        for compensation in ("none", "least_squares")
        for seed in (0, 1)
    ]
    # The first metric of the alphabet is pruned in steps alone.
    rows += [known_cells.cell("apoz", seed, 0.7, schedule="iterative(steps=3)") for seed in (0, 1)]
    table = known_cells.frame(rows)
    everywhere, here = curves(figures.accuracy(table)), curves(figures.without_training(table))
    assert here == {name: everywhere[name] for name in ("output_l1", "taylor")}
    # It can be asked for, and changes nothing where it has no curve.
    assert curves(figures.without_training(table, forward=["apoz"])) == here


@pytest.mark.parametrize("further", ["apoz", "taylor"])
def test_the_best_three_are_the_best_where_metrics_lack_ratios(further):
    means = dict(zip("abcdefg", (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7), strict=True))
    means |= {"apoz": 0.05, "taylor": 0.9}
    rows = [
        known_cells.cell(metric, accuracy=mean, ratio=ratio, parameter_ratio=ratio)
        for metric, mean in means.items()
        for ratio in (0.3, 0.5)
    ]
    # Only one metric has all ratios.
    rows.append(known_cells.cell(further, accuracy=0.01, ratio=0.1, parameter_ratio=0.1))
    (axes,) = figures.accuracy(known_cells.frame(rows)).axes
    names = [text.get_text() for text in axes.get_legend().get_texts()]
    assert names == ["taylor", "g", "f"]


def test_the_best_three_of_metrics_without_a_shared_ratio_have_the_highest_means():
    rows = [
        known_cells.cell(metric, accuracy=mean, ratio=ratio, parameter_ratio=ratio)
        for metric, mean, ratio in zip(
            "abcdefg",
            (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7),
            (0.3, 0.5, 0.3, 0.5, 0.3, 0.5, 0.3),
            strict=True,
        )
    ]
    (axes,) = figures.accuracy(known_cells.frame(rows)).axes
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["g", "f", "e"]


def test_without_training_the_means_of_both_sides_are_over_the_same_ratios_and_seeds():
    plain = {(0.3, 0): 0.1, (0.3, 1): 0.1, (0.5, 0): 0.8, (0.5, 1): 0.8, (0.5, 2): 0.2}
    other = {(0.5, 0): 0.6, (0.5, 1): 0.7, (0.9, 0): 0.9}

    def note(*sides: tuple[str, dict[tuple[float, int], float]]) -> str:
        rows = [
            known_cells.cell("taylor", seed, mean, ratio=ratio, compensation=compensation)
            for compensation, means in sides
            for (ratio, seed), mean in means.items()
        ]
        (axes,) = figures.without_training(known_cells.frame(rows)).axes
        return macs_notes(axes)[0]

    compensated = ("least_squares", other)
    assert note(("none", plain), compensated) == (
        "highest mean: taylor 65.0 %, without compensation: taylor 80.0 %, both at 0.5"
    )
    # Without any counterpart, there is nothing to compare with.
    assert note(compensated) == "highest mean: taylor 77.5 %"
    apart = ("none", {(0.3, 0): 0.1})
    assert note(apart, compensated) == "highest mean: taylor 77.5 %"


LONG = [
    f"weighted_mutual_information(estimator=pixel, information=gaussian, bins={at})"
    for at in range(16)
]


def panel_heights(figure: Figure) -> list[float]:
    """The inches of the panels' axes; the legend lies below all of them and within the figure."""
    figure.draw_without_rendering()
    legend = figure.legends[0].get_window_extent()
    assert legend.y0 >= 0
    assert legend.y1 < min(axes.get_tightbbox().y0 for axes in figure.axes)
    return [axes.get_position().height * figure.get_figheight() for axes in figure.axes]


def test_training_has_room_for_the_names_of_many_metrics():
    told = [history().assign(metric=name, key=history()["key"] + name) for name in LONG]
    heights = panel_heights(figures.training_curves(pd.concat(told)))
    assert min(heights) > 1.2


@pytest.mark.parametrize("draw", [figures.accuracy, figures.pareto_fronts])
def test_figures_of_accuracy_have_room_for_long_names(draw):
    accuracies = {name: [0.5 + 0.01 * at, 0.6] for at, name in enumerate(LONG[:6])}
    table = known_cells.frame(known_cells.cells(accuracies))
    assert min(panel_heights(draw(table))) > 1.2


def test_without_training_an_axis_of_one_ratio_is_not_as_narrow_as_its_error(both):
    for place in figures.without_training(both[both["ratio"] == 0.4]).axes:
        low, high = place.get_xlim()
        assert low < 0.4 < high
        assert high - low == pytest.approx(0.1)
    low, high = figures.without_training(both).axes[0].get_xlim()
    assert low < 0.2
    assert high > 0.6


@pytest.fixture(scope="module")
def unlike(frame) -> pd.DataFrame:
    """Local cells at 0.2, 0.4 and 0.6, global ones without 0.2, and SVHN at 0.6 alone."""
    small = frame[frame["normalisation"] == "none"]
    absent = (small["scope"] == "global") & (small["ratio"] == 0.2)
    absent |= (small["dataset"] == "svhn") & (small["ratio"] != 0.6)
    return small[~absent]


def test_widths_are_of_the_smallest_ratio_of_each_panel(frame, unlike):
    figure = figures.kept_widths(unlike)
    assert [title(place) for place in figure.axes if title(place)] == [
        "cifar10, simplenet_310k, local, at 0.2",
        "cifar10, simplenet_310k, global, at 0.4",
        "svhn, simplenet_310k, local, at 0.6",
        "svhn, simplenet_310k, global, at 0.6",
    ]
    assert "at the ratio of parameters in the title" in words(figure)
    (expected, *_) = figures.kept_widths(unlike[unlike["scope"] == "global"], 0.4).axes
    shown = panel(figure, "cifar10, global, at 0.4").collections[0]
    assert shown.get_array().tolist() == expected.collections[0].get_array().tolist()
    assert "at ratio of parameters 0.2" in words(figures.kept_widths(frame))
    without = frame.assign(widths=None)
    assert "No cell has widths" in words(figures.kept_widths(without))


def test_differences_are_at_three_ratios_of_each_panel(unlike):
    figure = figures.differences(unlike)
    table = results.paired_difference(unlike, None, "output_l1")
    table = table.assign(scope=table["scope"].astype(str))
    for dataset, scope, ratios in (
        ("cifar10", "local", [0.2, 0.4, 0.6]),
        ("cifar10", "global", [0.4, 0.6]),
        ("svhn", "local", [0.6]),
    ):
        place = panel(figure, f"{dataset}, {scope}")
        dots = [line for line in place.lines if "ratio" in str(line.get_gid())]
        # A ratio has the same look in all panels.
        assert [line.get_gid() for line in dots] == [
            f"ratio{[0.2, 0.4, 0.6].index(at)}" for at in ratios
        ]
        own = table[(table["dataset"] == dataset) & (table["scope"] == scope)]
        for ratio, line in zip(ratios, dots, strict=True):
            means = own.loc[own["ratio"] == ratio, "difference_points"]
            assert sorted(line.get_xdata()) == pytest.approx(sorted(means))
    # Of a panel that has none of another's ratios too.
    other = unlike[(unlike["dataset"] != "svhn") | (unlike["ratio"] == 0.6)]
    other = pd.concat([other, other[other["dataset"] == "svhn"].assign(dataset="z", ratio=0.9)])
    shown = figures.differences(other.assign(dataset_fingerprint=other["dataset"]))
    assert len(shown.axes) == 6
    assert "ratio of parameters 0.9" in words(shown)


def test_training_is_that_of_the_smallest_ratio_of_each_panel():
    other = history().assign(scope="global", budget="global", ratio=0.5)
    other = other[other["stage"] == "finetune"].assign(key=lambda rows: rows["key"] + "x")
    figure = figures.training_curves(pd.concat([history(), other]))
    assert [title(place) for place in figure.axes] == [
        "svhn, baselines",
        "svhn, local, fine-tuning at 0.3 of parameters",
        "svhn, global, fine-tuning at 0.5 of parameters",
    ]


@pytest.mark.parametrize(
    ("accuracies", "said"),
    [
        ({"output_l1": [0.5], "taylor": [0.6]}, "no intervals: one seed"),
        (
            {"output_l1": [0.5, 0.75, 0.625], "taylor": [0.75, 1.0, 0.875]},
            "no intervals: the same in every seed",
        ),
        (
            {"output_l1": [0.5, 0.75], "taylor": [0.75, 1.0], "apoz": [0.5]},
            "no intervals: one seed or the same in every seed",
        ),
        ({"output_l1": [0.5, 0.75], "taylor": [0.5, 1.0], "apoz": [0.5]}, "bar: 95 % t interval"),
    ],
)
def test_differences_say_why_there_are_no_intervals(accuracies, said):
    figure = figures.differences(known_cells.frame(known_cells.cells(accuracies)))
    assert figure.legends[0].get_texts()[-1].get_text() == said


@pytest.mark.parametrize("draw", [figures.accuracy, figures.differences, figures.pareto_fronts])
def test_axes_call_networks_fine_tuned_only_if_some_are(draw):
    accuracies = {"output_l1": [0.3, 0.4], "taylor": [0.4, 0.6]}
    tuned = known_cells.cells(accuracies)
    bare = known_cells.cells(accuracies, finetune="bare", finetune_epochs=0, recipe={"epochs": 0})
    for rows, expected, other in (
        (bare, "recalibrated, not fine-tuned", "after fine-tuning"),
        (tuned, "after fine-tuning", "not fine-tuned"),
        ([*tuned, *bare], "after fine-tuning", "not fine-tuned"),
    ):
        said = words(draw(known_cells.frame(rows)))
        assert expected in said
        assert other not in said
    pruned = words(draw(known_cells.frame(bare), at="pruned"))
    assert "after pruning" in pruned


def test_networks_trained_from_scratch_are_not_said_to_be_fine_tuned():
    own = history()[history()["stage"] == "finetune"]
    own = own.assign(metric="scratch", key=own["key"] + "s")
    for recipe in ("scratch", "finetune"):
        figure = figures.training_curves(pd.concat([history(), own.assign(finetune=recipe)]))
        assert [title(place) for place in figure.axes] == [
            "svhn, baselines",
            "svhn, local, fine-tuning at 0.3 of parameters",
            "svhn, local, training from scratch at 0.3 of parameters",
        ]
        assert [len(place.lines) for place in figure.axes] == [2, 1, 1]
    # Recipes of fine-tuning are told apart all the same.
    other = history()[history()["stage"] == "finetune"]
    other = other.assign(finetune="low_rate", key=other["key"] + "l")
    figure = figures.training_curves(pd.concat([history(), own.assign(finetune="scratch"), other]))
    assert [title(place) for place in figure.axes][1:] == [
        "svhn, recipe finetune, local, fine-tuning at 0.3 of parameters",
        "svhn, recipe low_rate, local, fine-tuning at 0.3 of parameters",
        "svhn, local, training from scratch at 0.3 of parameters",
    ]


@pytest.mark.parametrize(
    ("draw", "means"),
    [
        (figures.accuracy, (0.0, 0.9)),
        (figures.accuracy, (0.3, 1.0)),
        (figures.accuracy, (0.0, 1.0)),
        (figures.accuracy, (0.0, 0.0)),
        (figures.without_training, (0.0, 1.0)),
    ],
)
def test_points_at_the_ends_of_what_an_accuracy_can_be_lie_within_the_axes(draw, means):
    rows = [
        known_cells.cell(metric, seed, mean, baseline_test_top1=means[1], compensation=compensation)
        for metric, mean in zip(("output_l1", "taylor"), means, strict=True)
        for compensation in ("none", "least_squares")
        for seed in (0, 1)
    ]
    figure = draw(known_cells.frame(rows))
    figure.draw_without_rendering()
    pixels = figure.dpi / 72
    for axes in figure.axes:
        box = axes.get_window_extent()
        for at, mean in enumerate(means):
            dots = drawn(axes, f"metric{at}-dots")
            radius = dots.get_markersize() / 2 * pixels
            (_, y) = axes.transData.transform((0.3, 100 * mean))
            assert box.y0 + radius < y < box.y1 - radius


def test_an_axis_of_accuracies_has_no_room_below_zero_without_need():
    rows = known_cells.cells({"output_l1": [0.05, 0.06], "taylor": [0.8, 0.9]})
    assert figures.accuracy(known_cells.frame(rows)).axes[0].get_ylim()[0] == 0


def test_fronts_tell_floors_apart_where_they_compete():
    points = [(1, 1, 0.5, 200), (8, 1, 0.7, 300), (8, 4, 0.8, 400)]
    rows = [
        known_cells.cell(
            "taylor", seed, mean, min_channels=least, round_to=multiple, parameters=parameters
        )
        | {"baseline_test_top1": 0.9}
        for least, multiple, mean, parameters in points
        for seed in (0, 1)
    ]
    figure = figures.pareto_fronts(known_cells.frame(rows))
    legend = words(figure)
    for label in (
        "filled: local, at least 1 channels",
        "hollow: local, at least 8 channels, multiples of 1",
        "left half: local, at least 8 channels, multiples of 4",
    ):
        assert label in legend
    fills = {
        round(1e3 * x): line.get_fillstyle()
        for line in figure.axes[0].lines
        if str(line.get_gid()).endswith("-front")
        for x in line.get_xdata()
    }
    assert fills == {200: "full", 300: "none", 400: "left"}
    # Floors of two data sets do not compete.
    apart = [row | {"min_channels": 8} for row in known_cells.cells({"taylor": [0.6]})]
    apart += known_cells.cells({"taylor": [0.6]}, dataset="svhn")
    assert "at least" not in words(figures.pareto_fronts(known_cells.frame(apart)))
