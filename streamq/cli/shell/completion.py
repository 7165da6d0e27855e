"""What a line is completed with: keywords, functions, relations and their columns. Knows nothing of terminals."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

import duckdb

from streamq.cli.shell.commands import NAMES
from streamq.sql.catalog import RelationInfo
from streamq.sql.functions import OUTSIDE, TABLE_FUNCTIONS

KEYWORDS = tuple(
    """
    ALL ANALYZE AND ANTI ANY AS ASC ASOF BETWEEN BY CASCADE CASE CAST CHANGES CONNECTOR CREATE CROSS
    CURRENT_DATE DELETE DESC DESCRIBE DISTINCT DROP ELSE EMIT END EVERY EXCEPT EXCLUDE EXISTS EXPLAIN FALSE
    FILTER FINAL FIRST FOLLOWING FOR FROM FULL GROUP HAVING HOP IF ILIKE IN INNER INSERT INTERSECT INTERVAL
    INTO IS JOIN KEY LAST LATE LEFT LIKE LIMIT MATERIALIZED NATURAL NOT NULL NULLS OFFSET ON OR ORDER OUTER
    OVER PARTITION PRECEDING PRIMARY PROCTIME QUALIFY QUERIES RANGE RELATIONS REPLACE RIGHT ROWS SELECT SEMI
    SESSION SET SHOW SOURCE SOURCES SYSTEM_TIME TABLE TABLES THEN TIMESTAMP TRUE TUMBLE UNBOUNDED UNION UPDATE
    USING VALUES VIEW VIEWS WATERMARK WHEN WHERE WINDOW WITH
    """.split()  # noqa: SIM905
)
_WORD = re.compile(r"(?:(?P<owner>\w+)\.)?(?P<word>\w*)\Z")
_RELATION_BEFORE = re.compile(r"(?:\b(?:FROM|JOIN|INTO|UPDATE|DESCRIBE|TABLE|VIEW|SOURCE)|\\d)\s+\w*\Z", re.IGNORECASE)
_PLAIN = re.compile(r"[a-z_][a-z0-9_]*\Z")


class Names:
    """What can be named. Replaced as a whole, so that whoever completes on another thread finds names that belong together."""

    def __init__(self) -> None:
        self.functions: Sequence[str] = ()
        self._relations: dict[str, tuple[str, ...]] = {}

    def learn(self, relations: Iterable[RelationInfo]) -> None:
        """Take in what relations there are, and their columns."""
        self._relations = {relation.name: tuple(relation.schema.names) for relation in relations}

    def complete(self, before: str, text: str) -> Iterator[tuple[str, str]]:
        """Give what the last word of `before` may become, and what that is. `text` is all of what is typed, also behind the cursor.

        >>> names = Names()
        >>> names._relations = {"clicks": ("url", "at")}
        >>> list(names.complete("SELECT * FROM cl", "SELECT * FROM cl")), list(names.complete("SELECT c.u", "SELECT c.u FROM clicks c"))
        ([('clicks', 'relation')], [('url', 'column')])
        """
        if before.startswith("\\") and " " not in before:
            yield from ((name, "command") for name in NAMES if name.startswith(before))
            return
        found = _WORD.search(before)
        assert found is not None, "an empty word is found anywhere"
        word, owner = found["word"], found["owner"]
        if owner is not None:
            columns = self._relations.get(self._relation_of(owner, text) or "", ())
            yield from _matching(word, columns, "column")
        elif _RELATION_BEFORE.search(before):
            yield from _matching(word, self._relations, "relation")
        elif word:
            yield from _matching(word, self._columns_in(text), "column")
            yield from _matching(word, self._relations, "relation")
            keywords = KEYWORDS if word.isupper() else [keyword.lower() for keyword in KEYWORDS]
            yield from _matching(word, keywords, "keyword")
            yield from _matching(word, self.functions, "function")

    def _relation_of(self, owner: str, text: str) -> str | None:
        """Find the relation that is called `owner` in a text: by its name, or by an alias behind it."""
        for name in self._relations:
            alias = rf"\b{re.escape(name)}\s+(?:AS\s+)?{re.escape(owner)}\b"
            if name.lower() == owner.lower() or re.search(alias, text, re.IGNORECASE):
                return name
        return None

    def _columns_in(self, text: str) -> list[str]:
        """Give the columns of the relations that a text names; of all, as long as it names none."""
        words = {word.lower() for word in re.findall(r"\w+", text)}
        named = [name for name in self._relations if name.lower() in words]
        return list(dict.fromkeys(column for name in named or self._relations for column in self._relations[name]))


def load_functions() -> tuple[str, ...]:
    """Ask DuckDB for the functions that there are."""
    with duckdb.connect(config={"threads": 1}) as connection:
        rows = connection.execute("SELECT DISTINCT function_name FROM duckdb_functions() WHERE function_type IN ('scalar', 'aggregate')")
        names = {name for (name,) in rows.fetchall()}
    return tuple(sorted(name for name in (names | TABLE_FUNCTIONS) - OUTSIDE if _PLAIN.match(name) and not name.startswith("__")))


def _matching(word: str, names: Iterable[str], kind: str) -> Iterator[tuple[str, str]]:
    return ((name, kind) for name in names if name.lower().startswith(word.lower()) and name != word)
