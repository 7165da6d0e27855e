"""Why a query is not taken apart is a label of a metric: there are few reasons, and nothing of a query is in them."""

from __future__ import annotations

import ast
from pathlib import Path

import streamq

GRAMMAR = {"node.key", "join.method", "join.kind", "join.side", "clause"}
"""Words of the grammar, of which there are few."""


def test_reasons_have_nothing_of_the_users() -> None:
    """What is put into their texts are words of the grammar."""
    put_in = set()
    for path in (Path(streamq.__file__).parent / "sql").glob("*.py"):
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "NotLowered":
                put_in |= {ast.unparse(part.value) for part in ast.walk(call) if isinstance(part, ast.FormattedValue)}
    assert put_in == GRAMMAR
