"""Reads a spec from YAML; errors say what to change."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from sweep.errors import SpecError
from sweep.spec.datasets import DatasetSpec
from sweep.spec.fields import (
    ComparisonSpec,
    ControlsSpec,
    FinetuneSpec,
    MinChannelsSpec,
    RecipeSpec,
    ResourcesSpec,
    Spec,
    StageResourcesSpec,
)
from sweep.spec.networks import NetworkSpec
from sweep.spec.packaged import packaged, text_of


def read(name_or_path: str) -> Spec:
    """Reads a spec from a file, or a packaged spec by its name.

    Raises
    ------
    SpecError
        Naming the file, the field, its value and what is allowed.
    """
    path = Path(name_or_path)
    if name_or_path in packaged():
        text = text_of(name_or_path)
    else:
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            raise SpecError(
                f"there is no spec file {name_or_path}; packaged specs: {', '.join(packaged())}"
            ) from None
        except (OSError, UnicodeDecodeError) as error:
            raise SpecError(f"{name_or_path} cannot be read: {error}") from error
    return parse(text, name_or_path)


def parse(text: str, where: str) -> Spec:
    """Reads a spec from YAML text; `where` names the text in errors."""
    try:
        content = yaml.load(text, Loader=_Loader)
    # If a value does not fit its tag, PyYAML may raise KeyError, IndexError and others.
    except Exception as error:
        raise SpecError(f"{where} is not valid YAML: {error}") from error
    if not isinstance(content, dict):
        raise SpecError(f"{where} must be a mapping of fields, such as `name: digits`")
    try:
        return Spec.model_validate(content)
    except ValidationError as error:
        raise SpecError("\n".join(_explain(where, content, error))) from error


class _Loader(yaml.SafeLoader):
    """A YAML loader that reads 5e-4 as a number and refuses a field that is given twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: list[Any] = []
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                line = key_node.start_mark.line + 1
                raise yaml.YAMLError(f"field '{key}' is given twice, again in line {line}")
            seen.append(key)
        return super().construct_mapping(node, deep)


EXPONENTS = (
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)[eE][-+]?[0-9]+$"),
    list("-+0123456789."),
)
"""YAML 1.1 reads 5e-4 as text. Who writes a spec must quote a text that looks like this."""

_Loader.add_implicit_resolver(*EXPONENTS)


def _explain(where: str, content: Any, error: ValidationError) -> list[str]:
    lines = []
    for problem in error.errors():
        # For a union, pydantic also lists the member, which is not a field of the spec.
        steps = [step for step in problem["loc"] if _is_field(step)]
        if steps[:1] == ["finetune"] and not isinstance(content.get("finetune"), list):
            del steps[1:2]  # a single recipe needs no list
        field = "".join(f"[{s}]" if isinstance(s, int) else f".{s}" for s in steps).lstrip(".")
        message = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden":
            allowed = ", ".join(_fields_at(list(problem["loc"])[:-1]))
            text = f"{field} is not a field of the spec; allowed here: {allowed}"
        elif problem["type"] == "missing":
            text = f"{field} is missing"
        elif isinstance(problem["input"], dict):
            # Often a rule between fields. Its message names them; the whole mapping does not help.
            text = f"{field}: {message}" if field else message
        else:
            text = f"{field} is {problem['input']!r}; {message[0].lower()}{message[1:]}"
        lines.append(f"{where}: {text}")
    return lines


def _is_field(step: int | str) -> bool:
    return isinstance(step, int) or step.replace("_", "").isalnum()


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
