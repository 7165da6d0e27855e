"""Runs one statement, and hands what it gives to the output."""

from __future__ import annotations

from dataclasses import dataclass

from rich.console import Console

from streamq.cli.results import Results
from streamq.cli.wording import count
from streamq.database import Database
from streamq.sql.order import output_order
from streamq.sql.parse import parse_one
from streamq.sql.statements import Explain, Parameters, Select
from streamq.sql.tables import names_read


@dataclass(frozen=True, slots=True)
class Runner:
    """Runs statements in a database, one after the other.

    `watch` shows the result of a continuous query instead of its changes. In a database of its `own` nobody else inserts, so a continuous
    query ends its sources. `notes` is for what people should know besides rows.
    """

    db: Database
    results: Results
    notes: Console
    watch: bool = False
    own: bool = True
    timeout_s: float | None = None

    async def run(self, sql: str, params: Parameters = None) -> None:
        """Run a statement, and show what it gives.

        Raises:
            StreamqError: it failed.
            OSError: the output cannot be written.
        """
        match parse_one(sql):
            case Select(emit=None):
                async with self.db.query(sql, params, timeout=self.timeout_s) as stream:
                    await self.results.write_stream(stream)
            case Select() as select:
                await self._follow(sql, select, params)
            case statement:
                if isinstance(statement, Explain) and statement.analyze and statement.query.emit is not None:
                    await self.finish_sources(statement.query)
                outcome = await self.db.execute(sql, params)
                if outcome.table is None:
                    self.notes.print(f"{outcome.kind}: {count(outcome.rows, 'row')}" if outcome.rows else outcome.kind, style="dim")
                elif isinstance(statement, Explain) and self.results.kind == "table":
                    await self.results.write_text("\n".join([*outcome.table.column(0).to_pylist(), ""]))
                else:
                    await self.results.write_table(outcome.table)

    async def finish_sources(self, select: Select) -> None:
        """End the sources that a continuous query reads, where no more rows can come while it runs."""
        if not self.own:
            return
        relations = await _kinds(self.db)
        read = names_read(select)
        if not read <= relations.keys():
            # What is behind the views is not named.
            read = frozenset(relations) - {(select.late_rows_into or "").lower()}
        for name in sorted(read):
            if relations[name] == "source":
                await self.db.finish(name)

    async def _follow(self, sql: str, select: Select, params: Parameters) -> None:
        await self.finish_sources(select)
        await self._warn_without_end(select)
        async with self.db.query(sql, params, timeout=self.timeout_s) as stream:
            await (self.results.watch(stream, output_order(select)) if self.watch else self.results.write_changes(stream))

    async def _warn_without_end(self, select: Select) -> None:
        kinds = await _kinds(self.db)
        ending = ("source", "registered") if self.own else ("registered",)
        endless = [name for name in sorted(names_read(select)) if kinds.get(name, "source") not in ending]
        if not endless:
            return
        what = f"{kinds.get(endless[0], 'view')} {endless[0]}"
        why = f"has no end, because {what} has none" if self.own else f"goes on as long as {what} does"
        self.notes.print(f"this query {why}: Ctrl-C stops it", style="dim")


async def _kinds(db: Database) -> dict[str, str]:
    """Give what relations are that have rows; views are only names for others."""
    return {relation.name.lower(): relation.kind for relation in await db.relations() if relation.kind != "view"}
