"""The grammar of statements.

Every function reads one construct and leaves the parser on the token behind it.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from typing import Literal, cast

from sqlglot.tokenizer_core import TokenType

from streamq.errors import UnsupportedError
from streamq.sql.clauses import QUERY_STARTS, ClauseParser
from streamq.sql.options import QUERY_OPTIONS
from streamq.sql.own_table import check_reads
from streamq.sql.statements import (
    ColumnDef,
    CreateSink,
    CreateSource,
    CreateTable,
    CreateView,
    Delete,
    Describe,
    Drop,
    Explain,
    Insert,
    Select,
    Show,
    Statement,
    Update,
)

_SHOWN = ("RELATIONS", "SOURCES", "TABLES", "VIEWS", "SINKS", "QUERIES")
_FOREIGN_HINTS = {
    "COPY": "insert files with register(), write results with CREATE SINK or from the stream",
    "ATTACH": "register() gives files a name",
    "PIVOT": "write SELECT * FROM (PIVOT …)",
    "UNPIVOT": "write SELECT * FROM (UNPIVOT …)",
    "SET": "settings are arguments of connect(), or WITH (…) behind a query",
    "ALTER": "drop the relation and create it again",
    "TRUNCATE": "write DELETE FROM t",
    "SUMMARIZE": "write the aggregates you need",
}
_FOREIGN = frozenset(
    """
    ALTER ANALYZE ATTACH BEGIN CALL CHECKPOINT COMMENT COMMIT COPY DEALLOCATE DETACH EXECUTE EXPORT FORCE GRANT IMPORT INSTALL KILL LOAD
    MERGE PIVOT PRAGMA PREPARE REFRESH RESET REVOKE ROLLBACK SET START SUMMARIZE TRUNCATE UNPIVOT USE VACUUM
    """.split()  # noqa: SIM905
)


class StatementParser(ClauseParser):
    """Reads one statement from its tokens."""

    def statement(self) -> Statement:
        """Read the whole statement.

        Raises:
            GrammarError, Rejected: it is not in the grammar.
        """
        statement = self._read_statement()
        if self._curr:
            self.unexpected()
        return statement

    def _read_statement(self) -> Statement:
        readers: dict[str, Callable[[], Statement]] = {
            "CREATE": self._create,
            "INSERT": self._insert,
            "UPDATE": self._update,
            "DELETE": self._delete,
            "DROP": self._drop,
            "SHOW": self._show,
            "DESCRIBE": self._describe,
            "DESC": self._describe,
            "EXPLAIN": self._explain,
        }
        word = self._curr.text.upper() if self._curr.token_type != TokenType.IDENTIFIER else ""
        if word in readers:
            return readers[word]()
        if word in QUERY_STARTS:
            return self.query()
        if word in _FOREIGN:
            self.reject(f"{word} is not part of streamq's SQL", hint=_FOREIGN_HINTS.get(word), kind=UnsupportedError)
        self.reject(f"a statement cannot begin with {self._curr.text!r}", hint=_near_word(word, (*readers, "SELECT", "WITH", "FROM")))

    # CREATE

    def _create(self) -> Statement:
        self._advance()
        or_replace_at = self._curr
        or_replace = self.accept("OR", "REPLACE")
        materialized = self.accept("MATERIALIZED")
        kind = self._curr.text.upper()
        if or_replace and (kind != "VIEW" or materialized):
            self.reject("only views can be replaced", or_replace_at, hint="drop the relation first: DROP … IF EXISTS")
        if materialized or kind == "VIEW":
            self.expect("VIEW")
            return self._create_view(materialized, or_replace)
        if self.accept("SOURCE"):
            return self._create_source()
        if self.accept("TABLE"):
            return self._create_table()
        if self.accept("SINK"):
            return self._create_sink()
        self.reject(f"expected SOURCE, TABLE, VIEW, MATERIALIZED VIEW or SINK behind CREATE{self.instead()}")

    def _if_not_exists(self) -> bool:
        if not self.accept("IF"):
            return False
        self.expect("NOT", "EXISTS")
        return True

    def _create_view(self, materialized: bool, or_replace: bool) -> CreateView:
        if_not_exists = self._if_not_exists()
        what = "a materialized view" if materialized else "a view"
        name = self.name(what)
        self.expect("AS")
        start = self._index
        query = self.query()
        if materialized and query.emit == "changes":
            self._reject_emit(
                start, "a materialized view is always kept up to date", "leave EMIT CHANGES out; follow the view with EMIT CHANGES"
            )
        if not materialized and (query.emit or query.late_rows_into or query.options):
            self._reject_emit(
                start, "a view is a SELECT, without EMIT, LATE ROWS INTO and WITH", "put them on the query that reads the view"
            )
        return CreateView(self.whole(), name, query, materialized, or_replace, if_not_exists)

    def _reject_emit(self, start: int, message: str, hint: str) -> None:
        clauses = (token for token in self._tokens[start:] if token.text.upper() in ("EMIT", "LATE"))
        self.reject(message, next(clauses, self._tokens[start]), hint)

    def _create_source(self) -> CreateSource:
        if_not_exists = self._if_not_exists()
        name = self.name("a source")
        columns: list[ColumnDef] = []
        watermarks: list[tuple[str, str]] = []

        def read() -> None:
            token = self._curr
            if not self.accept("WATERMARK", "FOR"):
                columns.append(self._column_def(None))
                return
            if watermarks:
                self.reject("a source has one WATERMARK", token)
            column = self.name("a column")
            self.expect("AS")
            watermarks.append((column, self._expression_text(None)))

        self.wrapped(read)
        if not columns:
            self.reject("a source needs columns", self._prev)
        partition_by: tuple[str, ...] = ()
        if self._match(TokenType.PARTITION_BY):
            partition_by = self.names("a column")
        options = self.options(None) if self._match(TokenType.WITH) else ()
        watermark = watermarks[0] if watermarks else None
        return CreateSource(self.whole(), name, tuple(columns), watermark, partition_by, options, if_not_exists)

    def _create_table(self) -> CreateTable:
        if_not_exists = self._if_not_exists()
        at = self._curr
        name = self.name("a table")
        if self._curr.token_type == TokenType.ALIAS:
            self.reject(
                "CREATE TABLE … AS is not part of streamq's SQL", hint="create the table with a PRIMARY KEY, then INSERT INTO … SELECT"
            )
        columns: list[ColumnDef] = []
        keys: list[tuple[str, ...]] = []

        def read() -> None:
            token = self._curr
            if not self._match(TokenType.PRIMARY_KEY):
                columns.append(self._column_def(keys))
            else:
                keys.append(self.names("a column"))
            if len(keys) > 1:
                self.reject("a table has one PRIMARY KEY", token)

        self.wrapped(read)
        if not keys:
            self.reject(f"the table {name!r} needs a PRIMARY KEY", at, "rows without a key belong into a source: CREATE SOURCE")
        return CreateTable(self.whole(), name, tuple(columns), keys[0], if_not_exists)

    def _column_def(self, keys: list[tuple[str, ...]] | None) -> ColumnDef:
        """Read a column; its PRIMARY KEY goes to `keys` (None: it cannot have one)."""
        name = self.name("a column")
        start = self._curr
        if not start or start.token_type in (TokenType.COMMA, TokenType.R_PAREN) or self._parse_types() is None:
            self.reject(f"expected the type of {name!r}{self.instead()}", start)
        type_ = self.text_of(start)
        not_null = False
        while self._curr and self._curr.token_type not in (TokenType.COMMA, TokenType.R_PAREN):
            token = self._curr
            if self.accept("NOT", "NULL"):
                not_null = True
            elif self._match(TokenType.PRIMARY_KEY):
                if keys is None:
                    self.reject("a source has no PRIMARY KEY", token, "rows with a key belong into a table: CREATE TABLE")
                keys.append((name,))
            elif not self.accept("NULL"):
                self.reject(f"a column has a type, NOT NULL and PRIMARY KEY, not {token.text!r}", token)
        return ColumnDef(name, type_, not_null)

    def _create_sink(self) -> CreateSink:
        if self.accept("IF"):
            self.reject("CREATE SINK has no IF NOT EXISTS", self._prev)
        name = self.name("a sink")
        self.expect("AS")
        query = self.query(sink=True)
        options = tuple(option for option in query.options if option[0] not in QUERY_OPTIONS)
        if not options:
            self.reject("a sink needs WITH (connector = …)", None, "CREATE SINK n AS SELECT … WITH (connector = …, …)")
        own = tuple(option for option in query.options if option[0] in QUERY_OPTIONS)
        query = Select(query.sql, query.ast, query.emit, query.every_s, query.late_rows_into, own)
        return CreateSink(self.whole(), name, query, options)

    # Rows

    def _insert(self) -> Insert:
        self._advance()
        if not self.accept("INTO"):
            self.reject(f"expected INTO{self.instead()}", hint="insert into a table is an upsert, insert into a source appends")
        relation = self.name("a source or table")
        columns = self.names("a column") if self._curr.token_type == TokenType.L_PAREN and not self._selects_inside() else ()
        start = self._index
        query = self.query()
        if query.emit or query.late_rows_into:
            self._reject_emit(start, "INSERT runs a query once; it cannot EMIT", "CREATE SINK writes what a continuous query emits")
        return Insert(self.whole(), relation, columns, query)

    def _selects_inside(self) -> bool:
        return self._next.text.upper() in QUERY_STARTS and self._next.token_type != TokenType.IDENTIFIER

    def _update(self) -> Update:
        self._advance()
        table = self.name("a table")
        self.expect("SET")
        assignments = [self._assignment(table)]
        while self._match(TokenType.COMMA):
            assignments.append(self._assignment(table))
        return Update(self.whole(), table, tuple(assignments), self._where(table))

    def _assignment(self, table: str) -> tuple[str, str]:
        column = self.name("a column")
        self.expect("=")
        return column, self._expression_text(table)

    def _delete(self) -> Delete:
        self._advance()
        self.expect("FROM")
        table = self.name("a table")
        return Delete(self.whole(), table, self._where(table))

    def _where(self, table: str) -> str | None:
        condition = self._expression_text(table) if self._match(TokenType.WHERE) else None
        if self._curr:
            self.reject(
                f"{self._curr.text!r} is not expected here", hint="UPDATE and DELETE have one table and WHERE; use subqueries in it"
            )
        return condition

    def _expression_text(self, table: str | None) -> str:
        start = self._curr
        tree = self._parse_disjunction() if start else None
        if tree is None:
            self.reject(f"expected an expression{self.instead()}", start)
        check_reads(tree, table, self.sql)
        return self.text_of(start)

    # The rest

    def _drop(self) -> Drop:
        self._advance()
        kinds = ("SOURCE", "TABLE", "VIEW", "SINK")
        materialized = self.accept("MATERIALIZED")
        if not self._match_texts(("VIEW",) if materialized else kinds):
            self.reject(f"expected SOURCE, TABLE, VIEW, MATERIALIZED VIEW or SINK behind DROP{self.instead()}")
        kind = "materialized view" if materialized else self._prev.text.lower()
        if_exists = self.accept("IF")
        if if_exists:
            self.expect("EXISTS")
        name = self.name(f"a {kind}")
        cascade = self.accept("CASCADE")
        if not cascade:
            self.accept("RESTRICT")
        return Drop(self.whole(), cast(Literal["source", "table", "view", "materialized view", "sink"], kind), name, if_exists, cascade)

    def _show(self) -> Show:
        self._advance()
        if not self._match_texts(_SHOWN):
            self.reject(f"expected {', '.join(_SHOWN[:-1])} or {_SHOWN[-1]} behind SHOW{self.instead()}")
        what = self._prev.text.lower()
        return Show(self.whole(), cast(Literal["relations", "sources", "tables", "views", "sinks", "queries"], what))

    def _describe(self) -> Describe:
        self._advance()
        if self._curr.token_type in (TokenType.SELECT, TokenType.WITH, TokenType.FROM):
            self.reject("DESCRIBE takes the name of a relation", hint="EXPLAIN shows how a query runs; its stream has the schema")
        return Describe(self.whole(), self.name("a relation"))

    def _explain(self) -> Explain:
        self._advance()
        analyze = self.accept("ANALYZE")
        return Explain(self.whole(), self.query(), analyze)


def _near_word(word: str, known: tuple[str, ...]) -> str | None:
    near = difflib.get_close_matches(word, known, n=1)
    return f"did you mean {near[0]}?" if near else None
