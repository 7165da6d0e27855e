"""Scripts: where a statement ends, and where in the script its errors are."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamq.cli.script import in_script, split_statements
from streamq.errors import BindError


@pytest.mark.parametrize(
    ("script", "statements"),
    [
        ("", []),
        (" ;; -- nothing\n /* ; */ ", []),
        ("SELECT 1", ["SELECT 1"]),
        ("SELECT 1;", ["SELECT 1"]),
        ("SELECT 1 ; SELECT 2", ["SELECT 1", "SELECT 2"]),
        ("SELECT ';', \";\" FROM t; SELECT 2", ["SELECT ';', \";\" FROM t", "SELECT 2"]),
        ("SELECT 'it''s;'; SELECT 2", ["SELECT 'it''s;'", "SELECT 2"]),
        (r"SELECT E'it\'s;'; SELECT 2", [r"SELECT E'it\'s;'", "SELECT 2"]),
        ("SELECT $$a;b$$; SELECT $x$ ; $$ ; $x$", ["SELECT $$a;b$$", "SELECT $x$ ; $$ ; $x$"]),
        ("SELECT $1, $name; SELECT 2", ["SELECT $1, $name", "SELECT 2"]),
        ("SELECT 1 -- one; more\n + 1; SELECT 2", ["SELECT 1 -- one; more\n + 1", "SELECT 2"]),
        ("/* first; */ SELECT 1 /* last; */; SELECT 2", ["SELECT 1", "SELECT 2"]),
        ("SELECT 'unclosed; SELECT 2", ["SELECT 'unclosed; SELECT 2"]),
    ],
)
def test_statements_end_at_semicolons(script: str, statements: list[str]) -> None:
    """A semicolon in quotes, dollar quotes or a comment ends nothing."""
    assert [statement.text for statement in split_statements(script)] == statements


@given(st.text(alphabet="a1;'\"$-/* \n\\eE", max_size=40))
def test_statements_are_parts_of_the_script(script: str) -> None:
    """Whatever the text, each statement is found in it where it says, in order, and has something in it."""
    end = 0
    for statement in split_statements(script):
        assert statement.text.strip()
        assert statement.offset >= end
        end = statement.offset + len(statement.text)
        assert script[statement.offset : end] == statement.text


@pytest.mark.parametrize(
    ("script", "number", "inside", "outside"),
    [
        ("SELECT 1;\n  SELECT x", 1, (1, 8), (2, 10)),
        ("SELECT 1; SELECT x", 1, (1, 8), (1, 18)),
        ("SELECT\n\n x; SELECT 1", 0, (3, 2), (3, 2)),
        ("SELECT 1;\nSELECT\n x", 1, (2, 2), (3, 2)),
    ],
)
def test_an_error_is_where_it_is_in_the_script(script: str, number: int, inside: tuple[int, int], outside: tuple[int, int]) -> None:
    """Lines and columns count from the beginning of the script."""
    statement = split_statements(script)[number]
    error = in_script(BindError("no x", sql=statement.text, line=inside[0], column=inside[1], hint="y"), statement, script)
    assert isinstance(error, BindError)
    assert (error.line, error.column, error.sql, error.hint) == (*outside, script, "y")


def test_an_error_without_a_position_stays_as_it_is() -> None:
    """There is nothing to move."""
    error = BindError("no x")
    assert in_script(error, split_statements("SELECT x")[0], "SELECT x") is error
