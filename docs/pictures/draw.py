"""Draws channel-groups.png for docs/networks.md: `python docs/pictures/draw.py`.

The colours come from the traced groups of the two networks, so the picture cannot contradict them.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle
from torch import Tensor, nn

from prune_core.networks import ChannelGroup, Groups, trace
from prune_core.networks.groups import Side

PICTURE = Path(__file__).with_name("channel-groups.png")

CHANNELS = 4
REMOVED = 1
"""The channel of each group that the picture removes, counted from the top."""

# Of Okabe and Ito's palette: different for readers with any colour vision.
COLOURS = ("#0072B2", "#D55E00", "#009E73")
FIXED = "#999999"
INK = "#222222"
CELL = 0.2
WIDTH = 12.8
BOX = (0.8, 0.95)


class Chain(nn.Module):
    """Two convolutions, one behind the other."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, CHANNELS, 3, padding=1)
        self.norm1 = nn.BatchNorm2d(CHANNELS)
        self.conv2 = nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1)
        self.norm2 = nn.BatchNorm2d(CHANNELS)
        self.linear = nn.Linear(CHANNELS, 2)

    def forward(self, images: Tensor) -> Tensor:
        """Images [N, 3, H, W] to logits [N, 2]."""
        maps = torch.relu(self.norm1(self.conv1(images)))
        maps = torch.relu(self.norm2(self.conv2(maps)))
        return self.linear(maps.mean(dim=(2, 3)))


class Residual(nn.Module):
    """A stem and a basic block, whose shortcut is the identity."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, CHANNELS, 3, padding=1)
        self.norm = nn.BatchNorm2d(CHANNELS)
        self.conv1 = nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1)
        self.norm1 = nn.BatchNorm2d(CHANNELS)
        self.conv2 = nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1)
        self.norm2 = nn.BatchNorm2d(CHANNELS)
        self.linear = nn.Linear(CHANNELS, 2)

    def forward(self, images: Tensor) -> Tensor:
        """Images [N, 3, H, W] to logits [N, 2]."""
        maps = torch.relu(self.norm(self.stem(images)))
        made = torch.relu(self.norm1(self.conv1(maps)))
        maps = torch.relu(self.norm2(self.conv2(made)) + maps)
        return self.linear(maps.mean(dim=(2, 3)))


def draw() -> Figure:
    """The picture: a chain above, a residual block below."""
    figure = Figure(figsize=(11, 5.6))
    FigureCanvasAgg(figure)
    above, below = figure.subplots(2, 1, height_ratios=(1.6, 2.35))
    figure.subplots_adjust(left=0.01, right=0.99, top=0.95, bottom=0.14, hspace=0.18)
    _chain(Panel(above, trace(Chain(), (8, 8)), "A chain: each convolution has its own group"))
    title = "A basic block: the addition makes the channels of stem and conv2 one group"
    _residual(Panel(below, trace(Residual(), (8, 8)), title))
    _legend(figure)
    return figure


def _chain(panel: Panel) -> None:
    panel.limits(-0.95, 0.85)
    panel.layer(1.3, "conv1")
    panel.step(2.6, "norm1", "ReLU")
    panel.map(3.7, "conv1")
    panel.layer(4.9, "conv2")
    panel.step(6.2, "norm2", "ReLU,", "mean")
    panel.map(7.3, "conv2")
    panel.layer(8.5, "linear")
    panel.flow((0.0, 1.3, 2.6, 3.7, 4.9, 6.2, 7.3, 8.5, 9.7))
    panel.ends(0.0, 9.7)


def _residual(panel: Panel) -> None:
    panel.limits(-0.95, 1.65)
    panel.layer(1.3, "stem")
    panel.step(2.3, "norm", "ReLU")
    panel.map(3.1, "stem")
    panel.layer(4.25, "conv1")
    panel.step(5.4, "norm1", "ReLU")
    panel.map(6.15, "conv1")
    panel.layer(7.2, "conv2")
    panel.step(8.3, "norm2")
    panel.sum(9.0)
    panel.step(9.65, "ReLU,", "mean")
    panel.map(10.4, "conv2")
    panel.layer(11.5, "linear")
    panel.flow((0.0, 1.3, 2.3, 3.1, 4.25, 5.4, 6.15, 7.2, 8.3, 9.0, 9.65, 10.4, 11.5, 12.7))
    panel.shortcut(3.1, 9.0, 1.2, "shortcut")
    panel.ends(0.0, 12.7)


class Panel:
    """One network, drawn from left to right at height 0."""

    def __init__(self, axes: Axes, groups: Groups, title: str) -> None:
        self.axes, self.groups = axes, groups
        self.halves: dict[float, float] = {}
        axes.set_axis_off()
        axes.set_title(title, loc="left", fontsize=12, color=INK)

    def limits(self, low: float, high: float) -> None:
        """The heights that are shown."""
        self.axes.set_ylim(low, high)
        self.axes.set_aspect("equal")

    def layer(self, at: float, name: str) -> None:
        """A convolution or linear layer, with its input channels left and its outputs right."""
        width, height = BOX
        self._box(at, width, height, "white")
        above = height / 2 + 0.07
        self.axes.text(at, above, name, ha="center", va="bottom", fontsize=11, color=INK)
        roles: tuple[tuple[Side, str, float], ...] = (
            ("inputs", "consumer", at - width / 2),
            ("outputs", "producer", at + width / 2 - CELL),
        )
        low = -height / 2 - 0.08
        for side, role, left in roles:
            if (found := self._group(name, side)) is not None:
                self._cells(left, found, height / CHANNELS * 0.92)
                colour = self._colour(found)
                self.axes.text(at, low, role, ha="center", va="top", fontsize=9, color=colour)
                low -= 0.19
        self.halves[at] = width / 2

    def step(self, at: float, *lines: str) -> None:
        """Operations that keep each channel apart."""
        width, height = 0.72, 0.55
        self._box(at, width, height, "#eeeeee")
        text = "\n".join(lines)
        self.axes.text(at, 0, text, ha="center", va="center", fontsize=9, color=INK)
        self.halves[at] = width / 2

    def map(self, at: float, producer: str) -> None:
        """The feature map that is scored for a producer: one square a channel."""
        found = self._group(producer, "outputs")
        assert found is not None
        self._cells(at - CELL / 2, found, CELL * 1.15)
        words = f"scored for\n{producer}"
        self.axes.text(at, -0.55, words, ha="center", va="top", fontsize=9, color=INK)
        self.halves[at] = CELL / 2

    def sum(self, at: float) -> None:
        """An addition."""
        self.axes.plot([at], [0], "o", markersize=17, mfc="white", mec=INK, zorder=3)
        self.axes.text(at, -0.01, "+", ha="center", va="center", fontsize=13, zorder=4)
        self.halves[at] = 0.17

    def flow(self, places: tuple[float, ...]) -> None:
        """Arrows from each place to the next one."""
        for one, two in pairwise(places):
            start, end = one + self.halves.get(one, 0), two - self.halves.get(two, 0)
            self._arrow((start + 0.03, 0), (end - 0.03, 0))

    def shortcut(self, start: float, end: float, height: float, word: str) -> None:
        """An arrow over the others."""
        low = CHANNELS * CELL * 1.15 / 2 + 0.05
        self.axes.plot([start, start, end], [low, height, height], color=INK, linewidth=1.2)
        self._arrow((end, height), (end, self.halves[end] + 0.04))
        middle = (start + end) / 2
        self.axes.text(middle, height + 0.06, word, ha="center", va="bottom", fontsize=9)

    def ends(self, start: float, end: float) -> None:
        """The images and the logits."""
        for at, word, side in ((start, "images", "left"), (end, "logits", "right")):
            self.axes.text(at, 0.1, word, ha=side, va="bottom", fontsize=9, color=INK)
        # Both panels have one scale, so that equal things look equal.
        self.axes.set_xlim(-0.1, WIDTH)
        self.axes.set_anchor("W")

    def _group(self, module: str, side: Side) -> ChannelGroup | None:
        for group in self.groups.groups:
            if any((one.module, one.side) == (module, side) for one in group.members):
                return group
        return None

    def _colour(self, group: ChannelGroup) -> str:
        return COLOURS[self.groups.groups.index(group)]

    def _cells(self, left: float, group: ChannelGroup, height: float) -> None:
        colour = self._colour(group)
        for channel in range(CHANNELS):
            bottom = (CHANNELS / 2 - 1 - channel) * height
            gone = channel == REMOVED
            self.axes.add_patch(
                Rectangle(
                    (left, bottom + height * 0.1),
                    CELL,
                    height * 0.8,
                    facecolor="white" if gone else colour,
                    edgecolor=colour,
                    linestyle=(0, (2, 1.2)) if gone else "solid",
                    linewidth=1.2,
                    zorder=3,
                )
            )

    def _box(self, at: float, width: float, height: float, colour: str) -> None:
        self.axes.add_patch(
            FancyBboxPatch(
                (at - width / 2, -height / 2),
                width,
                height,
                boxstyle="round,pad=0,rounding_size=0.06",
                facecolor=colour,
                edgecolor=FIXED,
                zorder=2,
            )
        )

    def _arrow(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        self.axes.add_patch(
            FancyArrowPatch(
                start, end, arrowstyle="-|>", mutation_scale=9, shrinkA=0, shrinkB=0, color=INK
            )
        )


def _legend(figure: Figure) -> None:
    lines = (
        "One colour is one group. A square is a channel: in a feature map, or at the outputs "
        "(right edge) or inputs (left edge) of a layer.",
        "The dashed squares of one colour are one channel. They are removed together, with the "
        "channel's entries in batch normalisation.",
    )
    figure.text(0.012, 0.02, "\n".join(lines), fontsize=10, color=INK, linespacing=1.5)


def write(to: Path = PICTURE) -> None:
    """Writes the picture to a file."""
    draw().savefig(to, dpi=110, metadata={"Software": None})


if __name__ == "__main__":
    write()
