"""Entries of a spec that name something registered: metrics, budget rules, plug-ins and others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, ValidationInfo

from prune_core.budgets import BudgetChoice, BudgetError, rules_of
from prune_core.budgets.registry import Scope
from prune_core.compensation import Compensation, CompensationError
from prune_core.metrics import Choice, MetricError
from prune_core.plugins import Plugin, PluginError, load_plugin
from prune_core.schedule import Schedule, ScheduleError
from prune_core.spelling import allowed
from sweep.spec.base import as_list


def _plugin(value: Any, info: ValidationInfo) -> Any:
    try:
        if isinstance(value, Plugin):
            value.load()
            return value
        if isinstance(value, str):
            # The fields that follow may name what the file registers.
            return load_plugin(value, info.context)
    except PluginError as error:
        raise ValueError(str(error)) from error
    raise ValueError("must be the path of a Python file, such as my_metrics.py")


def _once(plugins: list[Plugin]) -> list[Plugin]:
    return list(dict.fromkeys(plugins))


def _read_by(parse: Callable[[Any], Any], refusal: type[Exception]) -> BeforeValidator:
    def read(value: Any) -> Any:
        try:
            return parse(value)
        except refusal as error:
            raise ValueError(str(error)) from error

    return BeforeValidator(read)


def _compensation(value: Any) -> Compensation:
    if value is None:
        raise ValueError("the entry is empty; write none for no compensation")
    return Compensation.parse(value)


def _rule_of(scope: Scope) -> BeforeValidator:
    def read(value: Any) -> BudgetChoice:
        try:
            choice = BudgetChoice.parse(value)
        except BudgetError as error:
            known = "is unknown" not in str(error)
            rules = allowed(str(value), map(repr, rules_of(scope)))
            raise ValueError(str(error) if known else f"not a budget rule; {rules}") from error
        if choice.scope != scope:
            rules = allowed("", map(repr, rules_of(scope)))
            raise ValueError(f"not a budget rule of the {scope} scope; {rules}")
        return choice

    return BeforeValidator(read)


def _budget(value: Any) -> BudgetChoice | None:
    return None if value is None else BudgetChoice.parse(value)


BudgetSpec = Annotated[BudgetChoice, _read_by(_budget, BudgetError)]
LocalRule = Annotated[BudgetChoice, _rule_of("local")]
GlobalRule = Annotated[BudgetChoice, _rule_of("global")]
PluginSpecs = Annotated[
    list[Annotated[Plugin, BeforeValidator(_plugin)]],
    BeforeValidator(as_list),
    AfterValidator(_once),
]
CompensationSpec = Annotated[Compensation, _read_by(_compensation, CompensationError)]
ScheduleSpec = Annotated[Schedule, _read_by(Schedule.parse, ScheduleError)]
MetricSpec = Annotated[Choice, _read_by(Choice.parse, MetricError)]
