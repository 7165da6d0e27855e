"""Arrow types by the names that DuckDB gives its own."""

from __future__ import annotations

import pyarrow as pa

from streamq.sql.arrow_types import MOST_KEPT, ArrowTypes
from tests.oracle import connect_duckdb

COLUMNS = """NULL AS n, 1::TINYINT AS i, 1.5::DECIMAL(9,2) AS d, 'a' AS s, TIMESTAMPTZ '2024-01-01' AS t, [1, 2]::INTEGER[] AS l,
    {'a': 1, 'b c': [DATE '2024-01-01']} AS r, MAP {'k': 1.5::FLOAT} AS m, 'x'::ENUM ('x', 'y') AS e, [1, 2]::INTEGER[2] AS f, 1 AS again"""


def test_types_are_those_in_which_results_come() -> None:
    """Asked for by its name or delivered, a type is the same, the first time and later."""
    types = ArrowTypes()
    with connect_duckdb() as connection:
        described = connection.execute(f"DESCRIBE SELECT {COLUMNS}").fetchall()
        names, kinds = [column[0] for column in described], [column[1] for column in described]
        delivered = connection.sql(f"SELECT {COLUMNS}").to_arrow_table().schema
        for _ in range(2):
            assert types.schema(connection, names, kinds) == delivered
        assert types.schema(connection, [], []) == pa.schema([])


def test_only_so_many_are_kept() -> None:
    """More types than are kept are all right, in one question and in many."""
    types = ArrowTypes()
    kinds = [f"DECIMAL({width},{scale})" for width in range(1, 39) for scale in range(width + 1)]
    kinds += [f"INTEGER[{length}]" for length in range(1, MOST_KEPT)]
    with connect_duckdb() as connection:
        for first in range(0, len(kinds), 600):
            part = kinds[first : first + 600]
            assert len(types.schema(connection, part, part)) == len(part)
            assert types.schema(connection, ["a"], part[:1]).field("a").type == types.schema(connection, ["b"], part[:1]).field("b").type
