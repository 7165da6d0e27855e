"""EXPLAIN of continuous queries: what is read, how rows go from stage to stage, what is kept and until when, and what comes out."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from typing import Protocol

from streamq.plan.continuous.state import describe_state
from streamq.plan.dataflow import (
    INPUT,
    OP,
    Accumulate,
    Aggregate,
    Dataflow,
    Distinct,
    First,
    Hold,
    Hop,
    Join,
    Lookup,
    Map,
    Node,
    Read,
    Recompute,
    Sessions,
    Sided,
    TopN,
    Union,
    edges,
)
from streamq.plan.exchanges import Broadcast, Exchange, Gather, Hash, Keep, Spread
from streamq.plan.executor import ExecutorChoice
from streamq.plan.render import direction, plain
from streamq.plan.sizes import human_bytes

WIDTH = 100


class OperatorRun(Protocol):
    """What the instances of a node have done and keep."""

    @property
    def rows_in(self) -> int: ...

    @property
    def rows_out(self) -> int: ...

    @property
    def state_rows(self) -> int: ...

    @property
    def state_bytes(self) -> int: ...

    @property
    def busy_s(self) -> float: ...


def explain_dataflow(
    dataflow: Dataflow,
    partitions: int | None = None,
    runs: Mapping[str, OperatorRun] | None = None,
    executor: ExecutorChoice | None = None,
) -> str:
    """Describe a dataflow: the changes that it gives, then its nodes in stages, between which rows are exchanged.

    `runs` says of nodes, by id, what they did.
    """
    runs = runs or {}
    stages = _stages(dataflow)
    lines = [*_header(dataflow, partitions, executor)]
    for number, nodes in enumerate(stages, 1):
        lines += ["", f"stage {number}: {', '.join(dict.fromkeys(_title(node) for node in nodes))}"]
        for node in nodes:
            lines += _node(node, dataflow)
            lines += _run(runs[node.id]) if node.id in runs else []
    return "\n".join([*lines, "", *_output(dataflow)]) + "\n"


def _header(dataflow: Dataflow, partitions: int | None, executor: ExecutorChoice | None) -> Iterator[str]:
    how = "EMIT FINAL" if dataflow.continuous.emit == "final" else "EMIT CHANGES"
    every = f" every {dataflow.continuous.every_s:g} s" if dataflow.continuous.every_s is not None else ""
    where = "" if partitions is None else f", in {partitions} {'partition' if partitions == 1 else 'partitions'}"
    yield f"continuous query: {how}{every}{where}"
    yield from _wrapped("changelog: ", _changelog(dataflow))
    for reason in dataflow.reasons:
        yield from _wrapped("  because ", reason)
    if executor is not None:
        yield from _wrapped("executor: ", f"{executor.kind}, because {executor.reason}")
    if dataflow.continuous.reads_clock:
        yield "clock: now() is that of the epoch which reads a row; nothing is computed again because time passes"
    if dataflow.continuous.state_ttl_s is not None:
        text = (
            f"what was not touched for {dataflow.continuous.state_ttl_s:g} s is forgotten: later rows then count as the first of their key"
        )
        yield from _wrapped("state_ttl: ", text)


def _changelog(dataflow: Dataflow) -> str:
    key = None if dataflow.key is None else f"({', '.join(dataflow.key)})"
    match dataflow.changelog:
        case "append":
            return "append: rows are only ever added"
        case "upsert" if dataflow.key == ():
            return f"upsert: one row, whose changes {OP} tells (insert, update)"
        case "upsert":
            return f"upsert by {key}: {OP} is insert, update or delete"
        case _:
            return f"retract: no key is known; {OP} is insert or delete"


# Stages


def _stages(dataflow: Dataflow) -> list[list[Node]]:
    """Put nodes that rows reach without an exchange together."""
    stages: list[list[Node]] = []
    place: dict[str, int] = {}
    for node in dataflow.nodes:
        near = [place[edge.node] for edge in edges(node) if _stays(edge.exchange)]
        if near and all(_stays(edge.exchange) for edge in edges(node)):
            number = max(near)
        else:
            stages.append([])
            number = len(stages) - 1
        stages[number].append(node)
        place[node.id] = number
    return stages


def _stays(exchange: Exchange) -> bool:
    return isinstance(exchange, Keep) or (isinstance(exchange, Hash) and exchange.in_place)


def _title(node: Node) -> str:
    match node:
        case Read():
            return f"read {node.scan.relation}"
        case Map() | Sided() | Recompute():
            return node.label
        case Aggregate() | Hop():
            return "aggregate"
        case Join():
            return f"{node.kind} join"
        case Lookup():
            return "lookup"
        case TopN():
            return "top n"
        case First():
            return "limit"
        case Union():
            return "union"
        case _:
            return type(node).__name__.lower()


# Nodes


def _node(node: Node, dataflow: Dataflow) -> Iterator[str]:
    yield f"  {node.id}: {_title(node)}"
    if isinstance(node, Read):
        yield from _wrapped("    columns: ", ", ".join(node.schema.names))
        if node.retracts:
            yield "    changes: rows are added and withdrawn"
    for edge, name in zip(edges(node), _table_names(node), strict=True):
        table = f" as {name}" if name else ""
        yield from _wrapped("    from: ", f"{edge.node}{table}, {_exchange(edge.exchange)}")
    for line in _details(node):
        yield from _wrapped("    ", line)
    kept, freed = describe_state(node, dataflow)
    if kept:
        yield from _wrapped("    keeps: ", kept)
        yield from _wrapped("    freed: ", freed)
    sql = node.sql if isinstance(node, Map | Sided | Recompute) else node.residual if isinstance(node, Join | Lookup) else None
    if sql is not None:
        yield "    sql:"
        yield textwrap.indent(sql, "      | ")


def _run(run: OperatorRun) -> list[str]:
    keeps = f"keeps {_rows(run.state_rows)} in {human_bytes(run.state_bytes)}" if run.state_bytes else "keeps nothing"
    return _wrapped("    ran: ", f"{_rows(run.rows_in)} in, {run.rows_out:,} out; {keeps}; busy {run.busy_s:.3f} s")


def _rows(number: int) -> str:
    return "1 row" if number == 1 else f"{number:,} rows"


def _table_names(node: Node) -> list[str]:
    """Name the tables as which a node's SQL reads its inputs, where that is not plain."""
    match node:
        case Recompute():
            return [name if name != INPUT else "" for name in node.names]
        case Sided():
            return ["", *(side.name for side in node.sides)]
        case _:
            return ["" for _ in edges(node)]


def _exchange(exchange: Exchange) -> str:
    match exchange:
        case Keep():
            return "in the same partition"
        case Hash(columns, True):
            return f"in place, hashed by {_columns(columns)}"
        case Hash(columns):
            return f"hashed by {_columns(columns)}"
        case Gather():
            return "gathered in one partition"
        case Broadcast():
            return "all of it in every partition"
        case Spread():
            return "spread over the partitions as it comes"


def _details(node: Node) -> Iterator[str]:
    match node:
        case Aggregate():
            yield f"by {_columns(node.keys) or 'nothing: one group'}: {_calls(node.calls)}"
            if node.emit == "close":
                yield "gives a group once, when its window closes"
        case Hop():
            yield f"by {_columns(node.keys)}: {_calls(node.calls)}"
            yield f"of a window every {node.slide_us / 1e6:g} s: gives a group once, when its window closes"
        case Join() | Lookup():
            equal = [f"{a} = {b}" for a, b in zip(node.left_keys, node.right_keys, strict=True)]
            yield f"on {' AND '.join(equal) or 'no equality'}{', and what the SQL below tells' if node.residual else ''}"
            if isinstance(node, Join) and node.interval is not None:
                bounds = node.interval.lower_us / 1e6, node.interval.upper_us / 1e6
                yield f"within {bounds[0]:g} s to {bounds[1]:g} s from {node.interval.left} to {node.interval.right}"
        case TopN():
            order = ", ".join(f"{plain(term.sql)} {direction(term)}" for term in node.order)
            yield f"rows {node.offset + 1} to {node.offset + node.limit} in the order {order}"
        case First():
            yield f"rows {node.offset + 1} to {node.offset + node.limit} as they come, then the query ends"
        case Sessions():
            yield f"by {_columns(node.keys) or 'nothing'}: rows of {node.time} at most {node.gap_us / 1e6:g} s apart"
            if node.final:
                yield "gives a session's rows once, when it closes"
        case Recompute() if node.keys[0]:
            yield f"by {_columns(node.keys[0])}"
        case Distinct():
            yield f"by {_columns(node.schema.names)}"
        case _:
            return


def _calls(calls: tuple[Accumulate, ...]) -> str:
    texts = (call.function if call.argument is None else f"{call.function}({plain(call.argument)})" for call in calls)
    return ", ".join(texts) or "keys only"


def _columns(names: tuple[str, ...] | list[str]) -> str:
    return ", ".join(map(plain, names))


# What comes out


def _output(dataflow: Dataflow) -> Iterator[str]:
    yield f"output: {dataflow.output}"
    if dataflow.continuous.emit == "final":
        yield from _wrapped("final: ", _final(dataflow))
    if dataflow.late:
        where = dataflow.continuous.late_rows_into
        lateness = f" for more than {dataflow.continuous.lateness_us / 1e6:g} s" if dataflow.continuous.lateness_us else ""
        reads = {node.id: node.scan.relation for node in dataflow.nodes if isinstance(node, Read)}
        relations = " and ".join(dict.fromkeys(reads[late.node] for late in dataflow.late))
        to = f"go to {where}" if where is not None else "are counted, and dropped"
        yield from _wrapped("late rows: ", f"rows of {relations} that come after their window or time bound has closed{lateness} {to}")


def _final(dataflow: Dataflow) -> str:
    """Say when rows are given, if each is given once."""
    closing = [node for node in dataflow.nodes if _gives_at_close(node)]
    if any(isinstance(node, Hold) and node.closing is None for node in dataflow.nodes):
        return "rows are given when all sources have ended: no time window closes them before"
    if not closing:
        return "rows are given at once: nothing that comes later changes them"
    names = dict.fromkeys(name for node in closing for name in _closes_by(node))
    return f"rows are given when their window closes: once the watermark less the lateness has passed {' and '.join(names)}"


def _gives_at_close(node: Node) -> bool:
    match node:
        case Aggregate():
            return node.emit == "close"
        case Hop():
            return True
        case Sessions() | Join():
            return node.final and not (isinstance(node, Join) and node.kind in ("inner", "semi", "cross"))
        case Hold():
            return node.closing is not None
        case _:
            return False


def _closes_by(node: Node) -> list[str]:
    match node:
        case Aggregate(closing=closing) | Hop(closing=closing) | Hold(closing=closing) if closing is not None:
            return [f"{plain(closing.column)} + {closing.plus_us / 1e6:g} s" if closing.plus_us else plain(closing.column)]
        case Sessions():
            return [f"the session's last row + {node.gap_us / 1e6:g} s"]
        case Join(interval=interval) if interval is not None:
            return [f"the time bound of {interval.left} and {interval.right}"]
        case _:
            return []


def _wrapped(head: str, text: str) -> list[str]:
    return textwrap.wrap(head + text, WIDTH, subsequent_indent=" " * len(head), break_long_words=False, break_on_hyphens=False)
