"""Reads a spec from YAML; errors say what to change."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from prune_core.plugins import Plugin
from prune_core.spelling import allowed
from sweep.errors import SpecError
from sweep.spec.datasets import DatasetSpec
from sweep.spec.fields import ComparisonSpec, ControlsSpec, MinChannelsSpec, Spec
from sweep.spec.networks import NetworkSpec
from sweep.spec.overrides import override
from sweep.spec.packaged import packaged, text_of
from sweep.spec.recipes import FinetuneSpec, RecipeSpec
from sweep.spec.resources import ResourcesSpec, StageResourcesSpec
from sweep.spec.yaml_text import copied, load_yaml

STANDARD_INPUT = "-"


def read(name_or_path: str, overrides: Sequence[str] = (), plugins: Sequence[Plugin] = ()) -> Spec:
    """Reads a spec from a file, from standard input, or a packaged spec by its name.

    Parameters
    ----------
    name_or_path : `-` for standard input.
    overrides : fields in place of those of the file, such as `recipe.epochs=3`; see
        `sweep.spec.overrides.override`.
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
    content = load_yaml(text, where)
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
    return _checked(copied(fields, where), where, overrides, plugins, None)


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


def _explain(where: str, content: Any, error: ValidationError) -> list[str]:
    lines = []
    problems = error.errors()
    # Without a plug-in, the names that it registers would be unknown as well.
    of_plugins = [one for one in problems if one["loc"][:1] == ("plugins",)]
    for problem in of_plugins or problems:
        # For a union, pydantic also lists the member, which is not a field of the spec.
        *path, last = problem["loc"] or ("",)
        unknown = problem["type"] in ("extra_forbidden", "invalid_key")
        last = str(last) if unknown else last
        named = unknown or problem["type"] == "missing"
        steps = [step for step in path if _is_field(step)]
        steps += [last] if named or _is_field(last) else []
        first = steps[0] if steps else ""
        if first in ("finetune", "plugins") and not isinstance(content.get(first), list):
            del steps[1:2]  # a single one needs no list
        field = "".join(map(_step, steps)).lstrip(".")
        message = problem["msg"].removeprefix("Value error, ")
        if unknown:
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
