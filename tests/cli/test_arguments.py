"""The command line: what arguments mean, and which are refused."""

from __future__ import annotations

import argparse
import io
from pathlib import Path

import pytest

from streamq.cli.arguments import (
    CancelCommand,
    DatabaseOptions,
    DemoCommand,
    ExplainCommand,
    QueriesCommand,
    QueryCommand,
    ServiceOptions,
    parse_arguments,
    parse_parameter,
    parse_relation,
    parse_watermark,
)


class Stdin(io.TextIOWrapper):
    """Standard input with bytes in it; a person's, if it is a terminal."""

    def __init__(self, data: bytes, *, terminal: bool = False) -> None:
        super().__init__(io.BytesIO(data), encoding="utf-8")
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal


def query(*arguments: str) -> QueryCommand:
    command = parse_arguments(["query", *arguments]).command
    assert isinstance(command, QueryCommand)
    return command


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Give what is said of arguments that are refused."""
    with pytest.raises(SystemExit) as end:
        parse_arguments(arguments)
    assert end.value.code == 2
    return capsys.readouterr().err


def test_sql_is_the_argument() -> None:
    """Several statements are taken apart."""
    assert [statement.text for statement in query("SELECT 1; SELECT 2").sql.statements] == ["SELECT 1", "SELECT 2"]


def test_sql_comes_from_a_file(tmp_path: Path) -> None:
    """With -f."""
    path = tmp_path / "report.sql"
    path.write_text("SELECT 'é'", encoding="utf-8")
    assert query("-f", str(path)).sql.script == "SELECT 'é'"


@pytest.mark.parametrize("arguments", [[], ["-"], ["-f", "-"]])
def test_sql_comes_from_standard_input(monkeypatch: pytest.MonkeyPatch, arguments: list[str]) -> None:
    """If asked for, or if nothing else was given."""
    monkeypatch.setattr("sys.stdin", Stdin("SELECT 'é'".encode()))
    assert query(*arguments).sql.script == "SELECT 'é'"


def test_nobody_is_made_to_guess_that_sql_is_read_from_the_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where a person sits at standard input, SQL has to be given."""
    monkeypatch.setattr("sys.stdin", Stdin(b"", terminal=True))
    assert "no SQL" in refusal(capsys, "query")


def test_defaults() -> None:
    """Nothing is set that was not asked for."""
    invocation = parse_arguments(["query", "SELECT 1"])
    command = query("SELECT 1")
    assert (invocation.backend, invocation.verbose, invocation.color) == ("asyncio", False, None)
    assert (command.format, command.output, command.max_rows, command.timeout_s, command.progress) == ("table", None, None, None, True)
    assert command.sql.database == DatabaseOptions(None, None, None)
    assert command.sql.parameters is None


def test_explain_and_demo_have_their_own_commands() -> None:
    """And the same options of how things run."""
    explain = parse_arguments(["explain", "SELECT 1", "--analyze", "--partitions", "3"]).command
    demo = parse_arguments(["demo", "--executor", "thread", "--backend", "trio"]).command
    assert isinstance(explain, ExplainCommand)
    assert explain.analyze
    assert explain.sql.database == DatabaseOptions(None, 3, None)
    assert demo == DemoCommand(DatabaseOptions("thread", None, None))


@pytest.mark.parametrize(
    ("arguments", "parameters"),
    [
        ([], None),
        (["-p", "7"], [7]),
        (["-p", "7", "-p", "x"], [7, "x"]),
        (["-p", "a=7", "-p", "b=x"], {"a": 7, "b": "x"}),
    ],
)
def test_parameters(arguments: list[str], parameters: object) -> None:
    """In order, or by name."""
    assert query("SELECT 1", *arguments).sql.parameters == parameters


@pytest.mark.parametrize(
    ("text", "parameter"),
    [
        ("7", (None, 7)),
        ("1.5", (None, 1.5)),
        ("true", (None, True)),
        ("null", (None, None)),
        ('"7"', (None, "7")),
        ("2013-01-01", (None, "2013-01-01")),
        ("a=b=c", ("a", "b=c")),
        ("a=", ("a", "")),
        ('"a=b"', (None, "a=b")),
        ("[1, 2]", (None, [1, 2])),
    ],
)
def test_a_parameter_is_json_or_text(text: str, parameter: tuple[str | None, object]) -> None:
    """What is no JSON is taken as it is."""
    assert parse_parameter(text) == parameter


@pytest.mark.parametrize(
    ("text", "relation"),
    [
        ("f=data/*.parquet", ("f", "data/*.parquet")),
        ("f=a=b.csv", ("f", "a=b.csv")),
        ("data/flights.parquet", ("flights", "data/flights.parquet")),
        ("flights.csv.gz", ("flights", "flights.csv.gz")),
    ],
)
def test_a_relation_has_a_name_or_gets_its_files(text: str, relation: tuple[str, str]) -> None:
    """The name may be left out for a single file."""
    assert parse_relation(text) == relation


@pytest.mark.parametrize("text", ["data/*.parquet", "f=", "1f=x.csv", "a-b.csv"])
def test_a_relation_without_a_usable_name_is_refused(text: str) -> None:
    """The message says what is expected."""
    with pytest.raises(argparse.ArgumentTypeError, match="is not NAME=PATH"):
        parse_relation(text)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "required: COMMAND"),
        (["query", "SELECT 1", "-f", "x.sql"], "not both"),
        (["query", "-f", "/does/not/exist.sql"], "cannot read the SQL"),
        (["query", " ; "], "the SQL is empty"),
        (["query", "SELECT 1", "--partitions", "0"], "at least 1"),
        (["query", "SELECT 1", "--timeout", "0"], "seconds above 0"),
        (["query", "SELECT 1", "--timeout", "soon"], "seconds above 0"),
        (["query", "SELECT 1", "--max-rows", "-1"], "whole number"),
        (["query", "SELECT 1", "--format", "xml"], "invalid choice: 'xml'"),
        (["query", "SELECT 1", "-p", "1", "-p", "a=1"], "give all parameters names"),
        (["query", "SELECT 1", "-p", "a=2", "-p", "a=1"], "each once"),
        (["query", "SELECT 1; SELECT 2", "-p", "1"], "there are 2"),
        (["query", "SELECT 1", "-r", "data/*.parquet"], "is not NAME=PATH"),
    ],
)
def test_wrong_arguments_are_refused(capsys: pytest.CaptureFixture[str], arguments: list[str], message: str) -> None:
    """With exit code 2 and the reason."""
    assert message in refusal(capsys, *arguments)


# Continuous queries


def test_watching_is_a_choice() -> None:
    """It has a short form."""
    assert [query("SELECT 1", *more).watch for more in ([], ["-w"], ["--watch"])] == [False, True, True]


@pytest.mark.parametrize("more", [["--format", "csv"], ["-o", "rows.txt"]])
def test_what_is_watched_is_a_table_on_standard_output(capsys: pytest.CaptureFixture[str], more: list[str]) -> None:
    """Nothing else can be kept up to date."""
    assert "--watch shows a table on standard output" in refusal(capsys, "query", "SELECT 1", "--watch", *more)


def test_watermarks_are_those_of_registered_files() -> None:
    """Each by the name of its relation."""
    command = query("SELECT 1", "-r", "clicks.csv", "--watermark", "clicks=ts - INTERVAL '5' SECOND")
    assert command.sql.watermarks == {"clicks": "ts - INTERVAL '5' SECOND"}


def test_a_watermark_of_nothing_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """The name is said."""
    text = refusal(capsys, "query", "SELECT 1", "-r", "clicks.csv", "--watermark", "click=ts")
    assert "--watermark: click is no name of -r NAME=PATH" in text


@pytest.mark.parametrize("text", ["ts - INTERVAL '5' SECOND", "clicks=", "=ts", "a b=ts"])
def test_a_watermark_needs_a_name_and_an_expression(text: str) -> None:
    """An example shows how it is written."""
    with pytest.raises(argparse.ArgumentTypeError, match="NAME=EXPRESSION"):
        parse_watermark(text)


def test_the_live_part_of_the_demonstration_is_shown_alone() -> None:
    """If it is asked for."""
    commands = [parse_arguments(["demo", *more]).command for more in ([], ["--live"])]
    assert [isinstance(command, DemoCommand) and command.live for command in commands] == [False, True]


# The service


@pytest.fixture
def _no_service(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("STREAMQ_URL", "STREAMQ_TOKEN"):
        monkeypatch.delenv(name, raising=False)


def service(*arguments: str) -> ServiceOptions | None:
    """Give the service of `streamq query` with these arguments."""
    database = query("SELECT 1", *arguments).sql.database
    return database if isinstance(database, ServiceOptions) else None


@pytest.mark.usefixtures("_no_service")
def test_a_service_is_an_argument_or_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The argument counts; an empty one is no service. Commands about a service have the usual address."""
    assert service() is None
    assert service("--url", "http://a:1") == ServiceOptions("http://a:1")
    cancel = parse_arguments(["cancel", "q1", "q2"]).command
    assert cancel == CancelCommand(ServiceOptions("http://127.0.0.1:8471"), ("q1", "q2"))
    monkeypatch.setenv("STREAMQ_URL", "https://b")
    assert service() == ServiceOptions("https://b")
    assert service("--url", "http://a:1") == ServiceOptions("http://a:1")
    assert service("--url", "") is None
    assert parse_arguments(["queries"]).command == QueriesCommand(ServiceOptions("https://b"), "table")


@pytest.mark.usefixtures("_no_service")
def test_a_token_is_in_the_environment_or_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Never an argument, which everyone on the machine can see; nor is it shown with the options."""
    path = tmp_path / "token"
    path.write_text("from-file\n")
    monkeypatch.setenv("STREAMQ_TOKEN", "from-environment")
    found = [service("--url", "http://a", *more) for more in ([], ["--token-file", str(path)])]
    assert [options and options.token for options in found] == ["from-environment", "from-file"]
    assert "from-" not in repr(found)


@pytest.mark.usefixtures("_no_service")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["query", "SELECT 1", "--url", "a:1"], "--url: 'a:1' is no address of a service"),
        (["query", "SELECT 1", "--token-file", "t"], "--token-file is for a service: give --url too"),
        (["query", "SELECT 1", "--url", "http://a", "-r", "f=a.csv"], "-r is for a database of this command, and --url names a service"),
        (["query", "SELECT 1", "--url", "http://a", "--executor", "thread"], "--executor is for a database of this command"),
        (["shell", "--url", "http://a", "--workers", "2"], "--workers is for a database of this command"),
        (["queries", "--url", "http://a", "--key-file", "k"], "--key-file is the key of --cert-file"),
        (["queries", "--url", "http://a", "--token-file", "/does/not/exist"], "/does/not/exist: No such file or directory"),
        (["insert", "--url", ""], "required: RELATION"),
        (["insert", "t", "--url", ""], "this command is about a service: give --url"),
        (["insert", "t", "-", "-"], "standard input can be read once"),
        (["cancel"], "required: ID"),
    ],
)
def test_wrong_services_are_refused(capsys: pytest.CaptureFixture[str], arguments: list[str], message: str) -> None:
    """The reason says what to do."""
    assert message in refusal(capsys, *arguments)


@pytest.mark.usefixtures("_no_service")
@pytest.mark.parametrize("content", ["", "two words", "two\nlines", "ü"])
def test_what_is_no_token_is_not_repeated(capsys: pytest.CaptureFixture[str], tmp_path: Path, content: str) -> None:
    """It may be another secret."""
    path = tmp_path / "file"
    path.write_text(content)
    said = refusal(capsys, "queries", "--token-file", str(path))
    assert "there is not one token in it" in said
    assert not content or content not in said


@pytest.mark.parametrize("command", ["query", "explain", "insert", "queries", "cancel", "shell", "demo"])
def test_help_tells_the_exit_codes(capsys: pytest.CaptureFixture[str], command: str) -> None:
    """Of every command."""
    with pytest.raises(SystemExit):
        parse_arguments([command, "--help"])
    assert "4    the service cannot be reached" in capsys.readouterr().out
