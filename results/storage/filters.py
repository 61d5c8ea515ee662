"""Conditions that select rows, in the forms that pandas and pyarrow take."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

Condition = tuple[str, str, Any]
Filters = Sequence[Condition] | Sequence[Sequence[Condition]] | Any
"""A list of conditions that must all hold; or a list of such lists, of which one must hold; or a
pyarrow expression."""


@dataclass(frozen=True)
class Filter:
    """A condition on rows, and the columns that it uses."""

    expression: pc.Expression
    columns: tuple[str, ...]

    def of(self, rows: pa.Table) -> pa.Table:
        """The rows that fulfil the condition."""
        return rows.filter(self.expression)


def filter_of(filters: Filters | None, schema: pa.Schema) -> Filter | None:
    """The condition that `filters` describes for a table of this schema, or None for all rows.

    Parameters
    ----------
    filters : a list of conditions that must all hold, such as `[("dataset", "==", "cifar10")]`;
        or a list of such lists, of which one must hold; or a pyarrow expression.

    Raises
    ------
    ValueError
        If it names a column that does not exist, or cannot be parsed.
    """
    if filters is None:
        return None
    try:
        if isinstance(filters, pc.Expression):
            expression = filters
        else:
            expression = pq.filters_to_expression(filters)
        text = str(expression)
        columns = [name for name in schema.names if re.search(rf"(?<!\w){name}(?!\w)", text)]
        found = Filter(expression, tuple(columns))
        found.of(pa.schema([schema.field(name) for name in columns]).empty_table())
    except (pa.ArrowException, ValueError, TypeError) as error:
        raise ValueError(
            f"filters {filters} cannot be used: {error}; a filter is a list such as "
            f"[('dataset', '==', 'cifar10')] on columns of {', '.join(schema.names)}"
        ) from error
    return found
