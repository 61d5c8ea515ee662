"""Options of metrics and networks: the keyword-only parameters of a function."""

from __future__ import annotations

import inspect
import math
import re
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any

from prune_core.spelling import allowed

Option = int | float | str | bool

_KINDS = (int, float, str, bool, type(None))


def options_of(
    function: Callable[..., object], where: str, raises: type[ValueError] = ValueError
) -> dict[str, inspect.Parameter]:
    """The keyword-only parameters of a function or class, with evaluated annotations.

    Raises
    ------
    ValueError
        Or the class `raises`. If an annotation is absent, or is not int, float, str, bool, Literal
        or a union of these with None.
    """
    annotated: Any = function
    if isinstance(function, type):
        annotated = annotated.__init__
    parameters = inspect.signature(function).parameters
    try:
        hints = typing.get_type_hints(annotated)
    except Exception as error:
        raise raises(f"{where}: an annotation cannot be evaluated: {error}") from error
    options = {}
    for name, parameter in parameters.items():
        if parameter.kind is not inspect.Parameter.KEYWORD_ONLY:
            continue
        hint = hints.get(name)
        literal = typing.get_origin(hint) is typing.Literal
        if not literal and any(kind not in _KINDS for kind in _kinds(hint)):
            raise raises(
                f"{where}, option '{name}' needs an annotation such as {name}: int; allowed: int, "
                "float, str, bool, unions of these with None, and Literal"
            )
        options[name] = parameter.replace(annotation=hint)
    return options


def option_defaults(function: Callable[..., object]) -> dict[str, object]:
    """The defaults of the options of a function; an option without a default is left out."""
    return {
        name: parameter.default
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
        and parameter.default is not inspect.Parameter.empty
    }


_CALL = re.compile(r"\s*(\w+)\s*(?:\((.*)\)\s*)?", re.DOTALL)
_WORDS: dict[str, object] = {"true": True, "false": False, "none": None, "null": None}


def named_options(
    value: object, what: str, example: str, raises: type[ValueError] = ValueError
) -> tuple[str, dict[str, object]]:
    """A name with options, as an entry of a spec gives it.

    Parameters
    ----------
    value : `name`, `name(option=64)`, `{name: {option: 64}}` or `{name: name, option: 64}`.
    what, example : of the entry, for errors, such as "a metric" and "entropy_histogram(bins=64)".

    Raises
    ------
    ValueError
        Or the class `raises`. If the value has none of these forms.
    """
    if isinstance(value, str) and value.count("(") != value.count(")"):
        raise raises(
            f"{value!r} has a bracket without its other half; in a YAML list [a, b] each comma "
            "ends an entry, so put an entry with a comma into quotes"
        )
    if isinstance(value, str) and (match := _CALL.fullmatch(value)):
        return match[1], _read_options(value, match[2] or "", raises)
    if isinstance(value, Mapping) and isinstance(value.get("name"), str):
        return value["name"], {k: v for k, v in value.items() if k != "name"}
    if isinstance(value, Mapping) and len(value) == 1:
        name, options = next(iter(value.items()))
        if isinstance(name, str) and (options is None or isinstance(options, Mapping)):
            return name, dict(options or {})
    name, _, inside = example.partition("(")
    option, _, number = inside.rstrip(")").partition("=")
    raise raises(
        f"{value!r} is not {what}; write a name such as {name}, or {example}, or "
        f"{{{name}: {{{option}: {number}}}}}"
    )


def _read_options(whole: str, text: str, raises: type[ValueError]) -> dict[str, object]:
    """Parses options such as `bins=64, estimator=pixel`."""
    options: dict[str, object] = {}
    for pair in text.split(",") if text.strip() else []:
        name, equals, value = (part.strip() for part in pair.partition("="))
        if not (name and equals and value) or name in options:
            raise raises(
                f"'{pair.strip()}' in '{whole}' must be option=value, with each option given once"
            )
        options[name] = _value(value)
    return options


def _value(text: str) -> object:
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"" else text


def checked_options(
    function: Callable[..., object],
    given: Mapping[str, object],
    where: str,
    raises: type[ValueError] = ValueError,
) -> dict[str, object]:
    """All options of a function in the order of its parameters: those given, else the defaults.

    Parameters
    ----------
    where : names the function in errors, such as "network 'vgg16_bn'".
    raises : the class of errors.

    Raises
    ------
    ValueError
        Or the class `raises`. For an unknown option, a missing one, or a value of another type
        than annotated; names the option, the value and what is allowed. See also `options_of`.
    """
    known = options_of(function, where, raises)
    for name in given:
        if name not in known:
            raise raises(f"{where} has no option '{name}'; {allowed(name, known)}")
    filled = {**option_defaults(function), **given}
    for name in known:
        if name not in filled:
            raise raises(f"{where} needs a value for its option '{name}'")
    return {
        name: checked(f"{where}, option '{name}'", filled[name], parameter.annotation, raises)
        for name, parameter in known.items()
    }


def checked(
    where: str, value: object, hint: object, raises: type[ValueError] = ValueError
) -> object:
    """Checks a value against the type `hint`; an integer is converted to a float if needed.

    Raises
    ------
    ValueError
        Or the class `raises`. Names the value and what is allowed.
    """
    where = f"{where} is {value!r}"
    # `isinstance`, `in` and `==` would accept True as an integer.
    if typing.get_origin(hint) is typing.Literal:
        choices = typing.get_args(hint)
        if not any(type(value) is type(choice) and value == choice for choice in choices):
            raise raises(f"{where}; {allowed(str(value), map(str, choices))}")
        return value
    if isinstance(value, float) and not math.isfinite(value):
        raise raises(f"{where}; it must be a finite number")
    kinds = _kinds(hint)
    if type(value) is int and int not in kinds and float in kinds:
        return float(value)
    if type(value) not in kinds:
        names = ["none" if kind is type(None) else getattr(kind, "__name__", "") for kind in kinds]
        raise raises(f"{where}; it must be of type {' or '.join(names)}")
    # Adding 0.0 turns -0.0 into 0.0, which is equal but would have another key.
    return value + 0.0 if isinstance(value, float) else value


def _kinds(hint: object) -> tuple[object, ...]:
    """The members of a union; any other type alone."""
    union = isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union
    return typing.get_args(hint) if union else (hint,)
