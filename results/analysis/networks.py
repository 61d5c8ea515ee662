"""What networks are called in titles and tables, and what seeds of shared weights can say."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pandas as pd

NETWORK = ("variant", "network_options", "width")
"""Columns that say which network was pruned."""

_INTERVALS = (
    "intervals over seeds say how much fine-tuning and seeded metrics vary, not how much networks "
    "vary."
)
_FINGERPRINT = 8


def option_words(options: str) -> str:
    """The options of a network, such as `shortcut B`; empty if it has none.

    Parameters
    ----------
    options : the column `network_options`: a JSON object. Any other text is returned as it is.
    """
    try:
        found = json.loads(options)
    except ValueError:
        return options
    if not isinstance(found, dict):
        return options
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in found.items())


NETWORK_WORDS: dict[str, Callable[[Any], str]] = {
    "network_options": option_words,
    "image_height": "{} pixels high".format,
    "image_width": "{} pixels wide".format,
    "weights": lambda fingerprint: f"weights {fingerprint[:_FINGERPRINT]}",
    "groups": "{} groups".format,
    "combine": "{} over producers".format,
}
"""Words for the values of columns that tell networks, or the groups in them, apart."""


def network_name(row: pd.Series) -> str:
    """The network of a row, such as `resnet56 (shortcut B, width 0.5)`; empty if not known."""
    if pd.isna(row["variant"]):
        return ""
    options = "" if pd.isna(row["network_options"]) else option_words(row["network_options"])
    # A width of 1 is the network as it was published.
    narrowed = pd.notna(row["width"]) and row["width"] != 1
    words = [*filter(None, [options]), *([f"width {row['width']:g}"] if narrowed else [])]
    return f"{row['variant']} ({', '.join(words)})" if words else str(row["variant"])


def network_names(frame: pd.DataFrame) -> pd.Series[str]:
    """The `network_name` of each row."""
    known = frame[list(NETWORK)].drop_duplicates()
    names = known.assign(network=[network_name(row) for _, row in known.iterrows()])
    found = frame[list(NETWORK)].merge(names, on=list(NETWORK), how="left")
    return found["network"].set_axis(frame.index)


def same_weights(rows: pd.DataFrame) -> str:
    """What intervals over seeds mean where baselines start from a file; empty if none does.

    Parameters
    ----------
    rows : any table with the column `weights`; leave out cells that are not ok.
    """
    from_file = rows["weights"].notna()
    if not from_file.any():
        return ""
    if from_file.all():
        return f"All seeds start from the same weights, those of a file: {_INTERVALS}"
    return f"Where baselines start from the weights of a file, all seeds share them: {_INTERVALS}"
