"""What fine-tuning recipes, schedules and what a ratio counts are called in titles and tables."""

from __future__ import annotations

from collections.abc import Iterable

from results.storage.schema import ONE_SHOT

_COUNTED = {"macs": "MACs"}


def finetune_name(finetune: str) -> str:
    """A recipe of fine-tuning, such as `recipe low_rate`; `no fine-tuning` for `none`."""
    return "no fine-tuning" if finetune == "none" else f"recipe {finetune}"


def schedule_name(schedule: str) -> str:
    """A schedule, such as `one shot` or `iterative(steps=3)`."""
    return "one shot" if schedule == ONE_SHOT else schedule


def counted_name(ratio_of: str) -> str:
    """What a ratio counts: `of parameters`, `of MACs` or `of channels`."""
    return f"of {_COUNTED.get(ratio_of, ratio_of)}"


def target_name(ratio_of: str) -> str:
    """What a target ratio counts: `ratio of parameters`, `ratio of MACs` or `ratio of channels`."""
    return f"ratio {counted_name(ratio_of)}"


def target_names(ratios_of: Iterable[str]) -> str:
    """The same for ratios that all count the same; `ratio` if they do not, or none is known."""
    known = {str(one) for one in ratios_of if isinstance(one, str)}
    return target_name(known.pop()) if len(known) == 1 else "ratio"
