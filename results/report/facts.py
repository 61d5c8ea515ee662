"""What was run, what failed, and where and with what: the facts of a report."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pandas as pd

from results.analysis.identities import BASELINE_PART, identity_parts
from results.analysis.networks import NETWORK_WORDS, network_name
from results.analysis.protocols import counted_name
from results.analysis.study import (
    BASELINE,
    FLOOR,
    UNPRUNED_STUDY,
    completed,
)
from results.formatting import (
    DASH,
    TIMES,
    duration,
    listed,
    moment,
    number,
    percent,
    without_middle,
)
from results.report.tables import Entry, Table
from results.storage.failure_logs import log_of, without_log
from results.storage.schema import (
    CONTROLS,
    FINETUNE,
    NO_COMPENSATION,
    ONE_SHOT,
    SCRATCH,
    STATUSES,
    UNPRUNED,
)

_ERROR_HEAD, _ERROR_TAIL = 1_500, 2_500
_EXAMPLES = 5
_GROUPS = 50


@dataclass(frozen=True)
class Failure:
    """Cells that ended the same way.

    Attributes
    ----------
    error : without the name of the log, which differs from cell to cell.
    cells : what the first few of them are, in words.
    traceback : of the first cell that has one, or empty.
    log : of the same cell, relative to the results folder, or empty.
    """

    status: str
    error: str
    count: int
    cells: tuple[str, ...]
    traceback: str
    log: str


def statuses(frame: pd.DataFrame, planned: Iterable[str]) -> list[tuple[str, int]]:
    """How many cells have each status, ok first, and how many planned ones have no row."""
    counts = frame["status"].value_counts()
    known = [*STATUSES, *sorted(set(counts.index) - set(STATUSES))]
    found = [(name, int(counts[name])) for name in known if name in counts.index]
    absent = len(set(planned) - set(frame["key"]))
    return [*found, ("not run", absent)] if absent else found


def datasets(frame: pd.DataFrame) -> Table:
    """The data sets, with their images."""
    names = ["dataset", "source", "classes", "train_images", "validation_images", "test_images"]
    odd, known = [*_ODD, "test_duplicates_other_label"], [*names, "dataset_fingerprint"]
    rows = frame[[*known, *odd]].dropna(subset="dataset").drop_duplicates()
    # Rows of earlier versions do not count odd images.
    counts = rows.groupby(known, dropna=False)[odd].transform("first")
    rows = rows.assign(**dict(rows[odd].fillna(counts).items())).drop_duplicates()
    lines = tuple(
        (
            Entry(str(row["dataset"]), below=_oddities(row)),
            Entry(_word(row["source"])),
            Entry(_word(row["dataset_fingerprint"])[:12]),
            *(Entry(number(row[name], 0)) for name in names[2:]),
        )
        for _, row in rows.sort_values(names).iterrows()
    )
    heads = ("data set", "source", "fingerprint", "classes", "training", "held out", "test images")
    return Table("", heads, lines, text_columns=3)


_ODD = {
    "images_skipped": "cannot be read and are left out",
    "train_duplicates": "training images repeat another",
    "validation_duplicates": "held-out images are training images, too",
    "test_duplicates": "test images are training images, too",
}
"""What a count of odd images says of them."""


def _oddities(row: pd.Series) -> str:
    """What is odd about the images of a data set; rows of earlier versions do not say."""
    counts = {name: row[name] for name in _ODD if pd.notna(row[name]) and row[name] > 0}
    words = [f"{number(count, 0)} {_ODD[name]}" for name, count in counts.items()]
    if "test_duplicates" in counts and (other := row["test_duplicates_other_label"]):
        words[-1] += f", {number(other, 0)} of them with another label"
    return "; ".join(words)


def baselines(frame: pd.DataFrame) -> Table:
    """The unpruned networks, with their accuracy over the seeds.

    Seeds that start from the weights of one file have equal networks, if these are not trained
    further. The deviation over such seeds says nothing about other networks.
    """
    known = frame.dropna(subset=["baseline_key", "baseline_test_top1"])
    # Baselines of different recipes have separate rows, though the table does not show all of it.
    known = known.assign(recipe=identity_parts(known["identity"])[BASELINE_PART])
    lines = []
    for _, rows in known.groupby([*UNPRUNED_STUDY, "recipe"], dropna=False):
        first, once = rows.iloc[0], rows.drop_duplicates(list(BASELINE))
        # A seed may have been trained twice, such as on two machines.
        once = once.groupby("seed")["baseline_test_top1"].mean()
        seconds = rows.groupby(list(BASELINE), dropna=False)["seconds_baseline"].first()
        lines.append(
            (
                Entry(str(first["dataset"])),
                Entry(network_name(first) or DASH, _inputs(first)),
                Entry(number(rows["parameters_full"].max(), 0)),
                Entry(number(rows["macs_full"].max() / 1e6, 1)),
                Entry(number(first["epochs"], 0)),
                Entry(str(len(once))),
                Entry(percent(once.mean())),
                Entry(percent(once.std())),
                Entry(duration(seconds.mean())),
            )
        )
    heads: tuple[str, ...] = ("data set", "network", "parameters", "MACs, millions", "epochs")
    heads += ("seeds", "accuracy, %", "deviation, points", "training time")
    return Table("", heads, tuple(lines), text_columns=2)


def grid(frame: pd.DataFrame) -> list[tuple[str, str]]:
    """The axes of the grid and the recipes, as terms and texts."""
    pruned = frame[~frame["metric"].isin(CONTROLS)]
    asked = frame[frame["metric"] != UNPRUNED]
    metrics = sorted(pruned["metric"].dropna().unique())
    told = completed(pruned)
    facts = [
        ("sweep", listed(frame["sweep"])),
        (f"metrics ({len(metrics)})", listed(metrics)),
        *_targets(completed(asked)),
        ("budgets", listed(asked["budget"].fillna(asked["scope"]))),
        ("normalisations", listed(frame["normalisation"])),
        *_varied(told, "compensations", "compensation", NO_COMPENSATION),
        *_varied(told, "schedules", "schedule", ONE_SHOT),
        ("seeds", listed(int(seed) for seed in frame["seed"].dropna().unique())),
        ("channel groups that can be pruned", listed(pruned["groups"])),
        ("one score of several producers", listed(pruned["combine"])),
        ("fewest channels of a group", _floors(frame)),
        ("baselines", "; ".join(recipes(frame, "baseline", "recipe")) or _epochs(frame["epochs"])),
        *(
            (
                "fine-tuning" if name == FINETUNE else f"fine-tuning {name}",
                "; ".join(recipes(rows, "finetune")) or _epochs(rows["finetune_epochs"]),
            )
            for name, rows in _by_recipe(told)
        ),
    ]
    if (frame["metric"] == SCRATCH).any():
        scratch = frame[frame["metric"] == SCRATCH]
        facts.append(
            ("from scratch", "; ".join(recipes(scratch, "finetune")) or _epochs(scratch["epochs"]))
        )
    return facts


def _targets(frame: pd.DataFrame) -> list[tuple[str, str]]:
    """The target ratios, separately for what they count."""
    found = frame.dropna(subset="ratio").groupby("ratio_of")["ratio"]
    targets = [
        (f"ratios {counted_name(str(counted))}", listed(ratios.astype(float)))
        for counted, ratios in found
    ]
    return targets or [("ratios", DASH)]


def _varied(frame: pd.DataFrame, term: str, column: str, usual: str) -> list[tuple[str, str]]:
    """The values of a column, if one of them is not the usual one."""
    return [(term, listed(frame[column]))] if (frame[column] != usual).any() else []


def _by_recipe(frame: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """The rows of each recipe of fine-tuning, with its name; without rows, the usual name."""
    found = [(str(name), rows) for name, rows in frame.groupby("finetune", sort=False)]
    return found or [(FINETUNE, frame)]


def recipes(frame: pd.DataFrame, *path: str) -> list[str]:
    """The distinct recipes at a path of the cells' identities, in words.

    Parameters
    ----------
    path : such as `finetune`, or `baseline` and `recipe`. Identities that lack it are left out.
    """
    found: dict[str, None] = {}
    for text in frame["identity"].dropna().unique():
        try:
            recipe = json.loads(text)
            for name in path:
                recipe = recipe[name]
        except (ValueError, KeyError, TypeError):
            continue
        if isinstance(recipe, dict):
            words = [
                f"{name.replace('_', ' ')} {'all' if value is None else value}"
                for name, value in recipe.items()
            ]
            found[", ".join(words)] = None
    return list(found)


def failures(frame: pd.DataFrame) -> tuple[list[Failure], int]:
    """Cells that are not ok, by status and error, the most frequent first.

    Returns
    -------
    At most 50 of them, and how many more there are.
    """
    bad = frame[frame["status"] != "ok"]
    errors = bad["error"].fillna("no error was recorded").astype(str)
    bad = bad.assign(error=errors.map(without_log), log=errors.map(log_of))
    groups = [
        Failure(
            status=str(status),
            error=_shortened(str(error)),
            count=len(rows),
            cells=tuple(_cell_words(row) for _, row in rows.head(_EXAMPLES).iterrows()),
            **_example(rows),
        )
        for (status, error), rows in bad.groupby(["status", "error"], sort=False)
    ]
    groups.sort(key=lambda failure: -failure.count)
    return groups[:_GROUPS], max(len(groups) - _GROUPS, 0)


def provenance(frame: pd.DataFrame) -> list[tuple[str, str]]:
    """Where, when and with what the cells ran, as terms and texts."""
    versions = [name for name in frame.columns if name.startswith("version_")]
    facts = [
        (name.removeprefix("version_").replace("_", "-"), listed(frame[name])) for name in versions
    ]
    return [
        ("cells", f"{frame['key'].nunique():,}"),
        ("baselines", f"{frame['baseline_key'].nunique():,}"),
        ("first begun", moment(frame["started_at"].min())),
        ("last ended", moment(frame["finished_at"].max())),
        ("time of all cells together", duration(frame["seconds"].sum())),
        ("git revision", listed(frame["git_revision"])),
        *facts,
        ("hosts", listed(frame["host"])),
        ("devices", listed(frame["device"])),
        ("threads", listed(int(count) for count in frame["threads"].dropna().unique())),
        ("precision of training", listed(frame["precision"])),
    ]


def identity(frame: pd.DataFrame) -> tuple[str, str]:
    """Key and identity, as indented JSON, of one cell as an example; empty without any."""
    known = frame.dropna(subset=["key", "identity"])
    if known.empty:
        return "", ""
    first = known.iloc[0]
    try:
        return str(first["key"]), json.dumps(json.loads(first["identity"]), indent=2)
    except ValueError:
        return str(first["key"]), str(first["identity"])


def _example(rows: pd.DataFrame) -> dict[str, str]:
    """Traceback and log of one cell, if possible of one that has a traceback."""
    known = rows.dropna(subset="traceback")
    one = (rows if known.empty else known).iloc[0]
    texts = {name: "" if pd.isna(one[name]) else str(one[name]) for name in ("traceback", "log")}
    return texts | {"traceback": _shortened(texts["traceback"])}


def _shortened(error: str) -> str:
    return without_middle(error, _ERROR_HEAD + _ERROR_TAIL, _ERROR_HEAD, _ERROR_TAIL)


def _cell_words(row: pd.Series) -> str:
    words = [row["dataset"], f"seed {row['seed']}", row["metric"], row["budget"]]
    words += [row["normalisation"]]
    usual = {"compensation": NO_COMPENSATION, "finetune": FINETUNE, "schedule": ONE_SHOT}
    words += [row[name] for name, value in usual.items() if row[name] != value]
    words += ["" if pd.isna(row["ratio"]) else f"{row['ratio']:g}"]
    return " ".join(str(word) for word in words if not pd.isna(word) and word) + f" ({row['key']})"


def _floors(frame: pd.DataFrame) -> str:
    words = []
    for _, row in frame[list(FLOOR)].dropna().drop_duplicates().iterrows():
        text = f"{row['min_channels']:g}"
        if row["min_channels_fraction"]:
            text += f" or {100 * row['min_channels_fraction']:g} % of them"
        if row["round_to"] > 1:
            text += f", in multiples of {row['round_to']:g}"
        words.append(text)
    return "; ".join(words) or DASH


def _inputs(row: pd.Series) -> str:
    """The images that a network reads, and the weights that it starts from if they are a file's."""
    height, width = row["image_height"], row["image_width"]
    known = pd.notna(height) and pd.notna(width)
    words = [f"images of {height} {TIMES} {width} pixels"] if known else []
    if pd.notna(row["weights"]):
        words.append(NETWORK_WORDS["weights"](row["weights"]))
    return ", ".join(words)


def _epochs(column: pd.Series) -> str:
    found = listed(int(count) for count in column.dropna().unique())
    return found if found == DASH else f"{found} epochs"


def _word(value: Any) -> str:
    return DASH if pd.isna(value) else str(value)
