"""Reads a spec from YAML; errors say what to change."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path, PurePath
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from prune_core.plugins import Plugin
from prune_core.spelling import allowed
from sweep.errors import SpecError
from sweep.spec.datasets import DatasetSpec
from sweep.spec.fields import ComparisonSpec, ControlsSpec, MinChannelsSpec, Spec
from sweep.spec.networks import NetworkSpec
from sweep.spec.packaged import packaged, text_of
from sweep.spec.recipes import FinetuneSpec, RecipeSpec
from sweep.spec.resources import ResourcesSpec, StageResourcesSpec

STANDARD_INPUT = "-"
NAMED_BY = {
    "datasets": "source",
    "metrics": "name",
    "local_budgets": "name",
    "global_budgets": "name",
    "compensations": "name",
    "schedules": "name",
}
"""The field that a text in one of these lists stands for."""


def read(name_or_path: str, overrides: Sequence[str] = (), plugins: Sequence[Plugin] = ()) -> Spec:
    """Reads a spec from a file, from standard input, or a packaged spec by its name.

    Parameters
    ----------
    name_or_path : `-` for standard input.
    overrides : fields in place of those of the file, such as `recipe.epochs=3`; see `override`.
    plugins : in addition to those of the file.

    Raises
    ------
    SpecError
        Naming the file, the field, its value and what is allowed.
    """
    path, base = Path(name_or_path), None
    if name_or_path in packaged():
        text = text_of(name_or_path)
    elif name_or_path == STANDARD_INPUT:
        text, name_or_path = sys.stdin.read(), "standard input"
    else:
        try:
            text, base = path.read_text(encoding="utf-8"), path.parent.absolute()
        except FileNotFoundError:
            raise SpecError(
                f"there is no spec file {name_or_path}; "
                f"{allowed(name_or_path, packaged(), 'packaged specs: ')}"
            ) from None
        except IsADirectoryError:
            raise SpecError(
                f"the spec '{name_or_path}' is a folder; name a file, such as spec.yaml"
            ) from None
        except (OSError, UnicodeDecodeError) as error:
            raise SpecError(f"{name_or_path} cannot be read: {error}") from error
    return parse(text, name_or_path, overrides, plugins, base)


def parse(
    text: str,
    where: str,
    overrides: Sequence[str] = (),
    plugins: Sequence[Plugin] = (),
    base: Path | None = None,
) -> Spec:
    """Reads a spec from YAML text; `where` names the text in errors.

    Parameters
    ----------
    overrides, plugins : see `read`.
    base : where relative paths of the field `plugins` start; by default the current folder.
    """
    content = _load(text, where)
    if not isinstance(content, dict):
        raise SpecError(f"{where} must be a mapping of fields, such as `name: digits`")
    return _checked(content, where, overrides, plugins, base)


def of_fields(
    fields: Mapping[Any, Any],
    where: str,
    overrides: Sequence[str] = (),
    plugins: Sequence[Plugin] = (),
) -> Spec:
    """A spec from the fields that its YAML text would have; `where` names them in errors.

    Parameters
    ----------
    fields : is not changed. Tuples, ranges and arrays are lists, and paths are texts.
    overrides, plugins : see `parse`.
    """
    return _checked(_copied(fields, where), where, overrides, plugins, None)


def _checked(
    content: dict[Any, Any],
    where: str,
    overrides: Sequence[str],
    plugins: Sequence[Plugin],
    base: Path | None,
) -> Spec:
    for one in overrides:
        override(content, one)
    if plugins:
        own = content.get("plugins") or []
        content["plugins"] = [*(own if isinstance(own, list) else [own]), *plugins]
    try:
        return Spec.model_validate(content, context=base)
    except ValidationError as error:
        words = " ".join([where, *(["with", *overrides] if overrides else [])])
        raise SpecError("\n".join(_explain(words, content, error))) from error


def _copied(value: Any, where: str) -> Any:
    """See `as_yaml`. No two fields share a mapping or list, so an override changes one field."""
    try:
        return as_yaml(value)
    except RecursionError:
        raise SpecError(f"{where} contains itself") from None


def as_yaml(value: Any) -> Any:
    """A copy of a value that Python gave, as YAML would give it."""
    if hasattr(value, "tolist"):  # an array or number of NumPy, a Series of pandas
        value = value.tolist()
    if isinstance(value, Mapping):
        return {key: as_yaml(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | range):
        return [as_yaml(inner) for inner in value]
    return str(value) if isinstance(value, PurePath) else value


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
    return name.strip(), _load(value, f"the value of {what} '{text}'")


def _readable(text: str) -> str:
    """Where the locale is ASCII, other letters of the command line arrive as bytes in disguise."""
    with suppress(UnicodeError):
        return text.encode(errors="surrogateescape").decode()
    return text


def _load(text: str, where: str) -> Any:
    try:
        found = yaml.load(text, Loader=_Loader)
    # If a value does not fit its tag, PyYAML may raise KeyError, IndexError and others.
    except Exception as error:
        raise SpecError(f"{where} is not valid YAML: {error}") from error
    return _copied(found, where)


class _Loader(yaml.SafeLoader):
    """A YAML loader that reads 5e-4 as a number and refuses a field that is given twice."""

    def compose_mapping_node(self, anchor: str | None) -> yaml.MappingNode:
        # When a mapping is constructed, its merge key `<<` may already have been replaced by fields
        # that it overrides.
        node: yaml.MappingNode = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if (key.tag, key.value) in seen:
                    line = key.start_mark.line + 1
                    raise yaml.YAMLError(
                        f"field '{key.value}' is given twice, again in line {line}"
                    )
                seen.add((key.tag, key.value))
        return node


EXPONENTS = (
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)[eE][-+]?[0-9]+$"),
    list("-+0123456789."),
)
"""YAML 1.1 reads 5e-4 as text. Who writes a spec must quote a text that looks like this."""

_Loader.add_implicit_resolver(*EXPONENTS)


def _explain(where: str, content: Any, error: ValidationError) -> list[str]:
    lines = []
    problems = error.errors()
    # Without a plug-in, the names that it registers would be unknown as well.
    of_plugins = [one for one in problems if one["loc"][:1] == ("plugins",)]
    for problem in of_plugins or problems:
        # For a union, pydantic also lists the member, which is not a field of the spec.
        *path, last = problem["loc"] or ("",)
        named = problem["type"] in ("extra_forbidden", "missing")
        steps = [step for step in path if _is_field(step)]
        steps += [last] if named or _is_field(last) else []
        first = steps[0] if steps else ""
        if first in ("finetune", "plugins") and not isinstance(content.get(first), list):
            del steps[1:2]  # a single one needs no list
        field = "".join(map(_step, steps)).lstrip(".")
        message = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden":
            fields = allowed(str(last), _fields_at(path), "allowed here: ")
            text = f"{field} is not a field of the spec; {fields}"
        elif problem["type"] == "missing":
            text = f"{field} is missing"
        elif problem["type"] == "model_type":
            fields = ", ".join(_fields_at([*path, last]))
            text = f"{field} is {problem['input']!r}; it must be a mapping with fields of {fields}"
        elif isinstance(problem["input"], dict):
            # Often a rule between fields. Its message names them; the whole mapping does not help.
            text = f"{field}: {message}" if field else message
        else:
            text = f"{field} is {problem['input']!r}; {message[0].lower()}{message[1:]}"
        lines.append(f"{where}: {text}")
    return lines


def _is_field(step: int | str) -> bool:
    return isinstance(step, int) or step.replace("_", "").isalnum()


def _step(step: int | str) -> str:
    if isinstance(step, int):
        return f"[{step}]"
    return f".{step}" if step.isprintable() and step.strip() == step != "" else f".{step!r}"


def _fields_at(path: list[int | str]) -> list[str]:
    model: type[BaseModel] = Spec
    nested: dict[str, type[BaseModel]] = {
        "datasets": DatasetSpec,
        "network": NetworkSpec,
        "recipe": RecipeSpec,
        "finetune": FinetuneSpec,
        "min_channels": MinChannelsSpec,
        "controls": ControlsSpec,
        "comparisons": ComparisonSpec,
        "resources": ResourcesSpec,
        "baseline": StageResourcesSpec,
        "statistics": StageResourcesSpec,
        "cell": StageResourcesSpec,
    }
    for step in path:
        model = nested.get(str(step), model)
    return list(model.model_fields)
