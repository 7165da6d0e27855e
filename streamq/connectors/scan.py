"""SQL that reads rows of files: which rows, which columns, and where a row is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from streamq.connectors.columns import FileColumns
from streamq.connectors.paths import PinnedFile
from streamq.plan.splits import Split
from streamq.sql.catalog import SYSTEM_SCHEMA
from streamq.storage.memory import ROW_COLUMN
from streamq.storage.text import identifier, literal


@dataclass(frozen=True, slots=True)
class Piece:
    """Something that one SELECT reads: a table function over file number `ordinal`, or over several if None.

    `row_number` is SQL for a row's place in its file, `where` limits the rows.
    """

    table: str
    ordinal: int | None
    row_number: str = "row_number() OVER () - 1"
    where: str | None = None


def duckdb_path(path: str) -> str:
    """Quote a path for DuckDB, which would take some of its characters for a pattern.

    >>> print(duckdb_path("/data/a[1].csv"))
    '/data/a[[]1].csv'
    """
    return literal("".join(f"[{char}]" if char in "*?[" else char for char in path))


def joined(splits: Sequence[Split]) -> Iterator[tuple[int, int, int | None]]:
    """Join splits that follow each other in a file, to `(unit, first row, end)`."""
    current: tuple[int, int, int | None] | None = None
    for split in splits:
        if current is not None and current[0] == split.unit and current[2] == split.first:
            current = (split.unit, current[1], split.end)
            continue
        if current is not None:
            yield current
        current = (split.unit, split.first, split.end)
    if current is not None:
        yield current


def needs_place(columns: Sequence[str], filter: str | None, schema_names: Sequence[str]) -> bool:
    """Tell whether a read needs to know where its rows are."""
    system = set(SYSTEM_SCHEMA.names) - {name.lower() for name in schema_names}
    return bool(system & set(columns)) or (filter is not None and any(name in filter.lower() for name in system))


def select_pieces(
    pieces: Sequence[Piece], files: Sequence[PinnedFile], described: FileColumns, columns: Sequence[str], filter: str | None
) -> str:
    """Read pieces one behind the other. No pieces: no rows, of the right columns."""
    place = needs_place(columns, filter, described.schema.names)
    if pieces:
        return " UNION ALL ".join(_select(piece, files, described, columns, filter, place) for piece in pieces)
    nothing = ", ".join(_typed_null(name, described) for name in columns) or f"NULL AS {identifier(ROW_COLUMN)}"
    return f"SELECT {nothing} WHERE false"


def _select(
    piece: Piece, files: Sequence[PinnedFile], described: FileColumns, columns: Sequence[str], filter: str | None, place: bool
) -> str:
    output = ", ".join(map(identifier, columns)) or f"NULL AS {identifier(ROW_COLUMN)}"
    system = _system_columns(piece, files, described) if place else ""
    inner = f"SELECT {described.star}{system} FROM {piece.table}" + (f" WHERE {piece.where}" if piece.where else "")
    return f"SELECT {output} FROM ({inner})" + (f" WHERE ({filter})" if filter is not None else "")


def _system_columns(piece: Piece, files: Sequence[PinnedFile], described: FileColumns) -> str:
    assert piece.ordinal is not None
    taken = {name.lower() for name in described.schema.names}
    values = {
        "_timestamp": f"make_timestamptz({files[piece.ordinal].mtime_ns // 1_000})",
        "_partition": f"CAST({piece.ordinal} AS INTEGER)",
        "_offset": f"CAST({piece.row_number} AS BIGINT)",
    }
    return "".join(f", {sql} AS {identifier(name)}" for name, sql in values.items() if name not in taken)


def _typed_null(name: str, described: FileColumns) -> str:
    types = {column.name: column.cast or column.type for column in described.columns}
    system = {"_timestamp": "TIMESTAMPTZ", "_partition": "INTEGER", "_offset": "BIGINT"}
    return f"CAST(NULL AS {types.get(name) or system[name]}) AS {identifier(name)}"
