"""Parameters: `?`, `$1` and `$name` become `$p1`, `$p2`, … with their values beside them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from sqlglot import exp

from streamq.errors import BindError
from streamq.sql.diagnostics import word_error
from streamq.sql.statements import Select, check_parameters
from streamq.sql.walks import find_all, holds

MOST = 65_535
"""The highest number of a parameter."""
_ANONYMOUS = "__anonymous_parameter_"
_MOST_NAMED = 10
"""An error names so many parameters that have no value."""


@dataclass(frozen=True, slots=True)
class Given:
    """Values of parameters: by the names that expressions use, and as the user's text wants them."""

    values: tuple[tuple[str, object], ...]
    native: tuple[object, ...] | dict[str, object]


@dataclass(frozen=True, slots=True)
class ParameterForm:
    """Which parameters a query has. In `tree` they are `$p1` …: number 1 to `wanted`, or else `names` in this order.

    `compared` are those that are only compared with columns: what the query is does not depend on their values, but on their types alone.
    """

    select: Select
    tree: exp.Expr
    names: tuple[str, ...]
    wanted: int
    used: frozenset[int]
    compared: frozenset[str]

    def take(self, given: Sequence[object] | Mapping[str, object] | None) -> Given:
        """Give every parameter its value.

        Raises:
            BindError: values are missing, left over, or of the wrong form (a sequence for `?` and `$1`, a mapping for `$name`).
        """
        if self.names:
            named = self._by_name(given)
            return Given(tuple((f"p{number}", value) for number, value in enumerate(named.values(), 1)), named)
        values = self._by_position(given)
        return Given(tuple((f"p{number}", value) for number, value in enumerate(values, 1)), values)

    def _by_name(self, given: Sequence[object] | Mapping[str, object] | None) -> dict[str, object]:
        names, select = self.names, self.select
        if not isinstance(given, Mapping):
            raise word_error(
                select.sql, f"parameter ${names[0]} needs its value by name", names[0], "pass a mapping: {'" + names[0] + "': …}"
            )
        missing = [name for name in names if name not in given]
        if missing:
            raise word_error(select.sql, f"no value for parameter {', '.join('$' + name for name in missing)}", missing[0])
        excess = [str(name) for name in given if name not in names]
        if excess:
            raise BindError(f"no parameter {', '.join('$' + name for name in excess)} in the query", sql=select.sql)
        return {name: given[name] for name in names}

    def _by_position(self, given: Sequence[object] | Mapping[str, object] | None) -> tuple[object, ...]:
        select, wanted = self.select, self.wanted
        if isinstance(given, Mapping):
            if given or wanted:
                raise BindError(
                    f"the query has {wanted} positional parameter{'s' * (wanted != 1)}, but the values have names",
                    sql=select.sql,
                    hint="pass a sequence of values, or write $name in the query",
                )
            given = ()
        check_parameters(given, select.sql)
        values = tuple(given or ())
        if len(values) < wanted:
            first = range(len(values) + 1, wanted + 1)[:_MOST_NAMED]
            missing = ", ".join(f"${number}" for number in first) + (", …" if first[-1] < wanted else "")
            raise BindError(f"no value for parameter {missing}: {wanted} wanted, {len(values)} given", sql=select.sql)
        unused = [number for number in range(1, len(values) + 1) if number not in self.used]
        if unused:
            names = ", ".join(f"${number}" for number in unused)
            raise BindError(f"no parameter {names} in the query: {wanted} wanted, {len(values)} given", sql=select.sql)
        return values


class PlannedBy(Mapping[str, object]):
    """The values of parameters for whoever makes a plan, and which of them were looked at: the plan is one for these values only."""

    def __init__(self, values: Mapping[str, object]) -> None:
        self._values = values
        self.seen: set[str] = set()

    def __getitem__(self, name: str) -> object:
        value = self._values[name]
        self.seen.add(name)
        return value

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


def parameter_form(select: Select) -> ParameterForm:
    """Find the parameters of a query, and number them.

    Raises:
        BindError: they are of several kinds, or have a number that is none.
    """
    if not holds(select.ast, exp.Placeholder, exp.Parameter):
        return ParameterForm(select, select.ast, (), 0, frozenset(), frozenset())
    tree = _number_anonymous(select.ast)
    found = find_all(tree, exp.Placeholder, exp.Parameter)
    names = {_name(node) for node in found}
    named = sorted(name for name in names if name and not name.isdigit())
    if named and len(named) < len(names):
        raise word_error(select.sql, "named parameters beside positional ones", named[0])
    if named:
        return _form(select, tree, {name: number for number, name in enumerate(named, 1)})
    numbers = {_name(node): _number(select, _name(node)) for node in found}
    if len({bool(node.meta_get(_ANONYMOUS)) for node in found}) > 1:
        raise BindError("? beside $1", sql=select.sql, hint="write either ? or $1, $2, …")
    return _form(select, tree, numbers)


def _form(select: Select, tree: exp.Expr, numbers: Mapping[str, int]) -> ParameterForm:
    def replace(node: exp.Expr) -> exp.Expr:
        return exp.Placeholder(this=f"p{numbers[_name(node)]}") if isinstance(node, exp.Placeholder | exp.Parameter) else node

    numbered = tree.transform(replace)
    placed = find_all(numbered, exp.Placeholder)
    compared = {node.name for node in placed} - {node.name for node in placed if not _is_compared(node)}
    names = tuple(name for name in numbers if not name.isdigit())
    wanted = 0 if names else max(numbers.values(), default=0)
    return ParameterForm(select, numbered, names, wanted, frozenset(numbers.values()), frozenset(compared))


def _is_compared(node: exp.Placeholder) -> bool:
    """Tell whether a parameter is compared with a column, and no more."""
    match node.parent:
        case exp.EQ() | exp.NEQ() | exp.LT() | exp.LTE() | exp.GT() | exp.GTE() as comparison:
            other = comparison.right if comparison.left is node else comparison.left
            return isinstance(other, exp.Column)
        case exp.Between() | exp.In() as comparison:
            return isinstance(comparison.this, exp.Column)
        case _:
            return False


def _name(node: exp.Expr) -> str:
    """Give a parameter's name or number as written; empty for `?`."""
    value = node.args.get("this")
    return value.name if isinstance(value, exp.Expr) else str(value or "")


def _number_anonymous(ast: exp.Expr) -> exp.Expr:
    """Give every `?` its number, in order of the text: in a copy, if there are any."""
    if all(map(_name, find_all(ast, exp.Placeholder))):
        return ast
    tree: exp.Expr = ast.copy()
    anonymous = [node for node in find_all(tree, exp.Placeholder) if not _name(node)]
    for number, node in enumerate(anonymous):
        node.set("this", f"{_ANONYMOUS}{number}_")
    written = tree.sql(dialect="duckdb")
    for number, node in enumerate(sorted(anonymous, key=lambda node: written.index(node.name)), 1):
        node.set("this", str(number))
        node.meta[_ANONYMOUS] = True
    return tree


def _number(select: Select, digits: str) -> int:
    """Read the number of a parameter."""
    number = int(digits) if len(digits) <= len(str(MOST)) else MOST + 1
    if not 1 <= number <= MOST:
        raise word_error(select.sql, f"there is no parameter ${digits[:20]}: they are numbered from $1 to ${MOST}", digits)
    return number
