"""Texts `FIELD=VALUE` that set fields of a spec's content."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from sweep.errors import SpecError
from sweep.spec.yaml_text import load_yaml

NAMED_BY = {
    "datasets": "source",
    "metrics": "name",
    "local_budgets": "name",
    "global_budgets": "name",
    "compensations": "name",
    "schedules": "name",
}
"""The field that a text in one of these lists stands for."""


def override(content: dict[Any, Any], text: str) -> None:
    """Sets one field of a spec's content.

    Parameters
    ----------
    text : `FIELD=VALUE`, such as `recipe.epochs=3`, `ratios=[0.3, 0.5]` or
        `datasets.0.train_images=500`. Dots lead into mappings and, with a number, into lists; the
        value is YAML.

    Raises
    ------
    SpecError
        Naming the override and what to write.
    """
    text = _readable(text)
    path, new = assigned(text, "override", "FIELD=VALUE", "recipe.epochs=3")
    steps, inner = path.split("."), content
    for depth, step in enumerate(steps):
        if isinstance(inner, list):
            if not (step.isdecimal() and int(step) < len(inner)):
                where = ".".join(steps[:depth])
                entries = (
                    f"a list of {len(inner)}; name an entry by its number, 0 to {len(inner) - 1}, "
                    f"not {step}"
                )
                raise SpecError(
                    f"override '{text}': {where} is {entries if inner else 'an empty list'}; set a "
                    f"whole list with {where}=[...]"
                )
            step = int(step)
        elif not isinstance(inner, dict):
            where, value = ".".join(steps[:depth]), text.partition("=")[2].strip()
            words = f"override '{text}': {where} is {inner!r}, which has no field {step}"
            plain = isinstance(inner, str) and "(" not in inner
            if depth == 2 and plain and steps[0] in NAMED_BY:
                named = f"{{{NAMED_BY[steps[0]]}: {inner}, {step}: {value}}}"
                words += f"; replace it as a whole, such as '{where}={named}'"
            raise SpecError(words)
        if depth == len(steps) - 1:
            inner[step] = new
        elif isinstance(inner, dict) and inner.get(step) is None:
            where = ".".join(steps[: depth + 1])
            if steps[depth + 1].isdecimal():
                raise SpecError(
                    f"override '{text}': {where} has no entries; set a whole list with "
                    f"{where}=[...]"
                )
            inner[step] = inner = {}
        else:
            inner = inner[step]


def assigned(text: str, what: str, form: str, example: str) -> tuple[str, Any]:
    """The name and the value of a text `NAME=VALUE`; the value is YAML.

    Parameters
    ----------
    what, form, example : what the text is, what it must look like, and an example, for errors.

    Raises
    ------
    SpecError
        If the text has no name, a part of the name between dots is empty, or the value is no YAML.
    """
    text = _readable(text)
    name, equals, value = text.partition("=")
    if not equals or not all(name.strip().split(".")):
        raise SpecError(f"{what} '{text}' must be {form}, such as {example}")
    return name.strip(), load_yaml(value, f"the value of {what} '{text}'")


def _readable(text: str) -> str:
    """Where the locale is ASCII, other letters of the command line arrive as bytes in disguise."""
    with suppress(UnicodeError):
        return text.encode(errors="surrogateescape").decode()
    return text
