"""What the expressions of UPDATE, DELETE and WATERMARK may read: their own rows, and nothing outside the database; of a WATERMARK, nothing
that is another time another value, for it is computed again wherever its rows are read.

DuckDB evaluates them as they are written, in the session that has the table; so what is in that session besides must not be named.
"""

from __future__ import annotations

from sqlglot import exp

from streamq.sql.diagnostics import word_error
from streamq.sql.functions import OUTSIDE, TABLE_FUNCTIONS, VOLATILE, calls, function_name, reads_clock
from streamq.sql.tables import map_tables
from streamq.sql.text import sql_of

_ROW_ALONE = "a watermark is computed from a row alone"


def check_reads(tree: exp.Expr, table: str | None, sql: str) -> None:
    """Check what an expression of a statement names, with its subqueries. `table` is the one that it may read, None for none.

    Raises:
        BindError: a function that reads outside the database, or something else than the table, or in a watermark one that is not the same
            each time.
    """
    for _, name in calls(tree):
        if name in OUTSIDE:
            raise word_error(sql, f"{name}() reads outside the database", name, "SQL names relations of the catalog only")
        if table is None and name in VOLATILE:
            raise word_error(sql, f"{name}() gives another value each time", name, _ROW_ALONE)
    if table is None and reads_clock(tree):
        raise word_error(sql, f"{sql_of(tree)} reads the clock", "", _ROW_ALONE)

    def check_table(read: exp.Table, _: frozenset[str]) -> None:
        if isinstance(read.this, exp.Func):
            name = function_name(read.this)
            if name not in TABLE_FUNCTIONS:
                known = f"table functions: {', '.join(sorted(TABLE_FUNCTIONS))}"
                raise word_error(sql, f"{name or sql_of(read)}() cannot be used as a table", name, known)
        elif table is None:
            raise word_error(sql, f"{sql_of(read)} cannot be read here", read.name, _ROW_ALONE)
        elif not isinstance(read.this, exp.Identifier) or read.db or read.name.lower() != table.lower():
            message = f"{sql_of(read)} cannot be read here: UPDATE and DELETE read their own table, {table}"
            raise word_error(sql, message, read.name, "query it first, and give what it says as parameters")

    map_tables(tree, check_table)
