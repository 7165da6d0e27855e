"""The architecture, held by reading the source: layers, what may be imported where, what no module may contain."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pytest

import streamq

ROOT = Path(streamq.__file__).parent
LAYERS = (
    ("errors", "config"),
    ("sql",),
    ("plan",),
    ("kernels",),
    ("operators",),
    ("storage",),
    ("flow",),
    ("execution",),
    ("streaming",),
    ("connectors",),
    ("wire", "database"),
    ("engine",),
    ("server", "client", "cli", "metrics"),
)
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}
ENTRY_POINTS = ("__init__", "__main__", "_worker", "engine")
"""Modules that wire the others; nothing else imports them, but for the programs on top."""
SYNCHRONOUS = ("errors", "config", "sql", "plan", "kernels", "operators", "storage")
CLIENT_FREE_OF = ("sqlglot", "numba", "starlette", "hypercorn", "streamq.engine")
WORKER_FREE_OF = ("sqlglot", "anyio", "rich", "http.client", "prometheus_client", "streamq.engine")
CONSTANT = re.compile(r"_?[A-Z][A-Z0-9_]*$|__\w+__$")
MUTABLE = (ast.List, ast.Dict, ast.Set, ast.ListComp, ast.DictComp, ast.SetComp)
MAKERS = {"list", "dict", "set", "bytearray", "defaultdict", "Counter", "OrderedDict", "deque", "WeakSet", "WeakKeyDictionary"} | {
    "WeakValueDictionary",
    "ContextVar",
    "Lock",
    "RLock",
    "count",
}
MUTATORS = {"append", "add", "update", "setdefault", "pop", "popitem", "clear", "extend", "insert", "remove", "discard", "appendleft"}
UNFINISHED = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b|NotImplementedError|\bfor now\b|\b(issue|ticket) #?\d|/(home|root|Users|work)/")


@dataclass(frozen=True)
class Module:
    """A source file of the package."""

    path: Path

    @property
    def name(self) -> str:
        return ".".join(self.path.relative_to(ROOT).with_suffix("").parts)

    @property
    def layer(self) -> str:
        return self.name.split(".")[0]

    @cached_property
    def text(self) -> str:
        return self.path.read_text("utf-8")

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)

    @cached_property
    def nodes(self) -> tuple[ast.AST, ...]:
        """Every node of the tree."""
        return tuple(ast.walk(self.tree))

    @cached_property
    def imports(self) -> tuple[tuple[str, int], ...]:
        """Every module imported, absolutely, with its line; those under TYPE_CHECKING too."""
        return tuple(self._imports())

    def _imports(self) -> Iterator[tuple[str, int]]:
        package = ["streamq", *self.name.split(".")[:-1]]
        for node in self.nodes:
            match node:
                case ast.Import(names=names):
                    yield from ((alias.name, node.lineno) for alias in names)
                case ast.ImportFrom(module=module, names=names, level=level):
                    base = package[: len(package) + 1 - level] if level else []
                    target = ".".join([*base, *([module] if module else [])])
                    if target == "streamq":
                        yield from ((f"streamq.{alias.name}", node.lineno) for alias in names)
                    else:
                        yield target, node.lineno


MODULES = [Module(path) for path in sorted(ROOT.rglob("*.py"))]
FOUND = sorted({module.layer for module in MODULES})


def every_module(check: Callable[[Module], None]) -> Callable[[str], None]:
    """Make a test of each layer that checks its modules."""

    @pytest.mark.parametrize("layer", FOUND)
    def test(layer: str) -> None:
        for module in MODULES:
            if module.layer == layer:
                check(module)

    test.__name__, test.__doc__ = check.__name__, check.__doc__
    return test


@every_module
def test_imports_point_up(module: Module) -> None:
    """A module imports its own layer and earlier ones only."""
    assert module.layer in ENTRY_POINTS or module.layer in RANK, f"{module.name} belongs to no layer"
    if module.name in ENTRY_POINTS:
        return
    for target, line in module.imports:
        parts = target.split(".")
        if parts[0] != "streamq" or len(parts) == 1:
            continue
        if parts[1] in RANK:
            assert RANK[parts[1]] <= RANK[module.layer], f"{module.path}:{line}: {module.layer} may not import {target}"
        else:
            assert RANK[module.layer] == RANK["cli"], f"{module.path}:{line}: only programs import {target}"


@every_module
def test_only_the_sql_package_knows_sqlglot(module: Module) -> None:
    """The parser can be replaced in one place."""
    if module.layer != "sql":
        assert not [f"{module.path}:{line}" for target, line in module.imports if target.split(".")[0] == "sqlglot"]


@every_module
def test_decisions_are_synchronous(module: Module) -> None:
    """What does not wait is not async: no `async def` below the flow layer."""
    if module.layer in SYNCHRONOUS:
        assert not [f"{module.path}:{node.lineno}" for node in module.nodes if isinstance(node, ast.AsyncFunctionDef)]


@every_module
def test_no_module_holds_mutable_state(module: Module) -> None:
    """Module-level names are constants: not rebound by a function, not containers but in ALL_CAPS, never changed in place."""
    names = set()
    for statement in module.tree.body:
        for name, value in _assigned(statement):
            names.add(name)
            assert not _is_mutable(value) or CONSTANT.match(name), f"{module.path}:{statement.lineno}: {name} is mutable module state"
    for node in module.nodes:
        assert not isinstance(node, ast.Global), f"{module.path}:{node.lineno}: global"
        changed = _changed_name(node)
        assert changed not in names or changed in _local_names(module.tree), f"{module.path}:{node.lineno}: changes {changed}"


@every_module
def test_module_text_is_finished(module: Module) -> None:
    """The source speaks of streamq and its users, and leaves nothing for later."""
    lines = [
        f"{module.path}:{number}: {line.strip()}" for number, line in enumerate(module.text.splitlines(), 1) if UNFINISHED.search(line)
    ]
    assert not lines


@every_module
def test_module_says_what_it_is(module: Module) -> None:
    """Every module with code opens with a docstring."""
    assert not module.tree.body or ast.get_docstring(module.tree), module.path


@every_module
def test_no_error_is_swallowed(module: Module) -> None:
    """There is no bare `except`, and no handler of every exception whose body does nothing."""
    for node in module.nodes:
        if isinstance(node, ast.ExceptHandler):
            assert node.type is not None, f"{module.path}:{node.lineno}: bare except"
            broad = isinstance(node.type, ast.Name) and node.type.id in ("Exception", "BaseException")
            assert not (broad and all(isinstance(line, ast.Pass) for line in node.body)), f"{module.path}:{node.lineno}: swallowed"


@pytest.mark.parametrize("name", streamq.__all__)
def test_public_names_are_documented(name: str) -> None:
    """Every public name, and every public method of a public class, has a docstring that was written for it."""
    public = getattr(streamq, name)
    assert public.__doc__
    assert not public.__doc__.startswith(f"{name}("), "a dataclass's generated signature is no docstring"
    if isinstance(public, type) and public.__module__.startswith("streamq"):
        for attribute, value in vars(public).items():
            if not attribute.startswith("_") and (callable(value) or isinstance(value, property | classmethod | staticmethod)):
                assert value.__doc__, f"{name}.{attribute}"


def test_every_lazy_name_is_public_and_sorted() -> None:
    """`__all__` is what `dir()` gives, each name once."""
    assert len(set(streamq.__all__)) == len(streamq.__all__)
    assert set(streamq.__all__) <= set(dir(streamq))


@pytest.mark.parametrize(
    ("statement", "free_of"),
    [
        ("import streamq", ("duckdb", "pyarrow", "sqlglot")),
        ("import streamq.client", CLIENT_FREE_OF),
        ("import streamq._worker", WORKER_FREE_OF),
    ],
)
def test_imports_stay_light(statement: str, free_of: tuple[str, ...]) -> None:
    """`import streamq` loads nothing heavy, a client no parser, and a worker process neither that nor the event loop's libraries."""
    code = f"{statement}; import sys; print(*[name for name in {free_of!r} if name in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert loaded.stdout.split() == []


def _assigned(node: ast.stmt) -> Iterator[tuple[str, ast.expr | None]]:
    match node:
        case ast.Assign(targets=targets, value=value):
            yield from ((target.id, value) for target in targets if isinstance(target, ast.Name))
        case ast.AnnAssign(target=ast.Name(id=name), value=value):
            yield name, value


def _is_mutable(value: ast.expr | None) -> bool:
    if isinstance(value, ast.Call):
        function = value.func.attr if isinstance(value.func, ast.Attribute) else getattr(value.func, "id", "")
        return function in MAKERS
    return isinstance(value, MUTABLE)


def _changed_name(node: ast.AST) -> str | None:
    match node:
        case ast.Call(func=ast.Attribute(value=ast.Name(id=name), attr=attribute)) if attribute in MUTATORS:
            return name
        case ast.Subscript(value=ast.Name(id=name), ctx=ast.Store() | ast.Del()):
            return name
    return None


def _local_names(tree: ast.Module) -> set[str]:
    """Names that some function binds itself: there a change is to the local."""
    names = set()
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            arguments = function.args
            names |= {arg.arg for arg in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)}
            names |= {node.id for node in ast.walk(function) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    return names
