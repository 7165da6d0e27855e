"""Arrow schemas as DuckDB reads them."""

from __future__ import annotations

import duckdb
import pyarrow as pa

from streamq.errors import SourceError
from streamq.storage.session import private_session


def readable(relation: str, schema: pa.Schema) -> pa.Schema:
    """Give the schema that rows of `schema` have in SQL: plain strings for all kinds of strings, no name twice.

    Raises:
        SourceError: there are no columns, or DuckDB has no type for one of them.
    """
    if not len(schema):
        raise SourceError(f"{relation}: there are no columns")
    with private_session() as con:
        try:
            return con.from_arrow(schema.empty_table()).to_arrow_table().schema
        except (duckdb.Error, pa.ArrowException) as error:
            raise SourceError(f"{relation}: a column's type cannot be read: {str(error).splitlines()[0]}") from error
