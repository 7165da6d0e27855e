"""The shell: what statements from a pipe give, what a person at a terminal sees, and what completes what is typed."""

from __future__ import annotations

import io
import os
import pty
import re
import select
import signal
import stat
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pytest

from streamq.cli.arguments import ShellCommand, UsageError, parse_arguments
from streamq.cli.shell.commands import NAMES, DescribeRelation, Help, List, Quit, ShellLine, Switch, parse_command
from streamq.cli.shell.completion import Names, load_functions
from streamq.sql.catalog import RelationInfo
from tests.cli.conftest import BACKENDS, Ended, Program, Serving

PATIENCE_S = 60


# Statements from a pipe


@pytest.fixture
def shell(program: Program, monkeypatch: pytest.MonkeyPatch) -> Program:
    """Run a shell that is given lines: `shell("SELECT 1;", …)`; options are named before them."""

    def call(*arguments: str) -> Ended:
        options = [argument for argument in arguments if argument.startswith("--")]
        lines = "".join(f"{argument}\n" for argument in arguments if not argument.startswith("--"))
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(lines.encode()), encoding="utf-8"))
        return program("shell", *options)

    return call


def test_statements_have_any_number_of_lines(shell: Program) -> None:
    """They end with a semicolon that is not in quotes; the last one may do without."""
    ended = shell("CREATE SOURCE s (t VARCHAR); INSERT INTO s", "VALUES (';'),", "('b');", "SELECT count(*) AS n FROM s", "WHERE t = ';'")
    assert (ended.code, ended.err) == (0, "create source\ninsert: 2 rows\n")
    assert ended.out.decode().splitlines()[-3:] == ["│     1 │", "╰───────╯", "1 row"]


def test_commands_between_statements(shell: Program) -> None:
    r"""They end with their line; `\q` ends the shell."""
    lines = [
        "CREATE SOURCE s (n INT);",
        "CREATE VIEW v AS SELECT n FROM s;",
        r"\d",
        r"\d v",
        r"\?",
        r"\watch",
        r"\timing on",
        "SELECT 1;",
        r"\q",
    ]
    ended = shell(*lines, "SELECT nothing;")
    assert ended.code == 0
    out = ended.out.decode()
    assert re.search(r"│ s +│ source", out)
    assert re.search(r"│ n +│ int32", out)
    assert r"\watch [on|off]" in out
    assert "view v AS SELECT n FROM s" in ended.err
    assert "continuous queries are shown as their result" in ended.err
    assert "timing is on\ntime: " in ended.err


def test_the_first_error_ends_it(shell: Program) -> None:
    """With the exit code that the statement has elsewhere, so that scripts can tell."""
    for statement, code in (("SELECT 1 // 0;", 1), ("SELECT nothing;", 2), (r"\nothing", 2)):
        ended = shell("SELECT 1;", statement, "SELECT 'not reached';")
        assert (ended.code, ended.out.count(b"row")) == (code, 1)
        assert ended.err.startswith("error: ")


def test_continuous_queries_end_with_the_pipes_own_sources(shell: Program) -> None:
    """Nobody else inserts into them. Their changes are printed; `--watch` shows the result."""
    lines = ["CREATE SOURCE s (n INT); INSERT INTO s VALUES (1), (2);", "SELECT count(*) AS n FROM s EMIT CHANGES;"]
    assert shell(*lines).out.decode().splitlines()[-2:] == ["       2  insert", "1 change"]
    assert "completed after" in shell("--watch", *lines).out.decode()


def test_a_shell_of_a_service(shell: Program, service: Serving) -> None:
    """Sees what others have made."""
    service.execute("CREATE SOURCE shared (n BIGINT)")
    ended = shell(f"--url={service.url}", "INSERT INTO shared VALUES (7);", "SELECT n FROM shared;")
    assert (ended.code, ended.err, "│     7 │" in ended.out.decode()) == (0, "insert: 1 row\n", True)


# A person at a terminal


class Person:
    """Types, and reads what is on the terminal, without its control sequences."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._unread = ""

    def types(self, keys: str) -> None:
        os.write(self._fd, keys.encode())

    def sees(self, pattern: str) -> str:
        """Wait for something to appear behind what was seen before."""
        deadline = time.monotonic() + PATIENCE_S
        while (found := re.search(pattern, self._unread, re.DOTALL)) is None:
            assert select.select([self._fd], [], [], max(0, deadline - time.monotonic()))[0], f"{pattern!r} is not in {self._unread!r}"
            self._unread += _plain(os.read(self._fd, 1 << 16).decode(errors="replace"))
        self._unread = self._unread[found.end() :]
        return found[0]


def _plain(text: str) -> str:
    return re.sub(r"\x1b\[[?0-9;]*[A-Za-z]|\x1b[=>]", "", text)


# A terminal sends signals to the processes whose own it is.
OWN_TERMINAL = "import fcntl, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); from streamq.cli import main; main()"


@contextmanager
def at_terminal(state: Path, *arguments: str) -> Iterator[tuple[Person, subprocess.Popen[bytes], int]]:
    """Start a shell on a terminal of its own; ends it if it still runs."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(ours, (40, 100))
    environment = {**os.environ, "TERM": "xterm", "XDG_STATE_HOME": str(state), "PROMPT_TOOLKIT_NO_CPR": "1", "NO_COLOR": "1"}
    program = [sys.executable, "-c", OWN_TERMINAL, "shell", *arguments]
    with subprocess.Popen(program, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True, env=environment) as process:
        try:
            yield Person(ours), process, theirs
        finally:
            process.kill()
            os.close(theirs)
            os.close(ours)


needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="what a terminal echoes differs")


@needs_linux
def test_a_person_at_a_terminal(tmp_path: Path) -> None:
    """Types statements of several lines, completes words, makes mistakes, cancels what goes on and leaves."""
    with at_terminal(tmp_path, "--backend", BACKENDS[0], "--executor", "thread") as (person, process, _):
        person.sees("a database in memory.*streamq>")
        person.types("CREATE SOURCE clicks (url VARCHAR);\r")
        person.sees("create source.*streamq>")
        person.types("INSERT INTO cli\t VALUES\r('/');\r")
        person.sees("insert: 1 row.*streamq>")
        person.types("SELECT nothing\x03")
        person.sees("streamq>")
        person.types("SELECT 1 // 0;\r")
        person.sees("error: .*zero.*streamq>")
        person.types("SELECT url, count(*) AS n FROM clicks GROUP BY url EMIT CHANGES;\r")
        person.sees("goes on as long as source clicks does: Ctrl-C stops it")
        person.sees("epoch 1 ")
        person.types("\x03")
        person.sees("cancelled.*streamq>")
        person.types("\\d clicks\r")
        person.sees("source clicks.*streamq>")
        person.types("\x04")
        assert process.wait(PATIENCE_S) == 0
    history = tmp_path / "streamq" / "history"
    assert stat.S_IMODE(history.stat().st_mode) == 0o600
    assert "INSERT INTO clicks VALUES" in history.read_text()


@needs_linux
def test_a_shell_that_is_ended_leaves_the_terminal_as_it_was(tmp_path: Path, service: Serving) -> None:
    """By a signal, while it waits for a line. What another shell was told comes back with the arrow keys; Ctrl-C ends a service's query."""
    (tmp_path / "streamq").mkdir()
    (tmp_path / "streamq" / "history").write_text("\n# 2026-05-01 12:00:00\n+SELECT 6 * 7 AS answer;\n")
    with at_terminal(tmp_path, "--backend", BACKENDS[-1], "--url", service.url) as (person, process, terminal):
        before = termios.tcgetattr(terminal)
        person.sees(f"{service.url}.*streamq>")
        person.types("\x1b[A\r")
        person.sees("42.*1 row.*streamq>")
        service.execute("CREATE SOURCE IF NOT EXISTS followed (n BIGINT)")
        person.types("SELECT n FROM followed EMIT CHANGES;\r")
        person.sees("epoch ")
        person.types("\x03")
        person.sees("cancelled.*streamq>")
        assert service.portal.call(service.db.queries) == ()
        os.kill(process.pid, signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 143
        assert termios.tcgetattr(terminal) == before


# Completion and commands


@pytest.fixture(scope="module")
def names() -> Names:
    names = Names()
    names.functions = load_functions()
    clicks = RelationInfo("clicks", "source", pa.schema([("url", pa.string()), ("at", pa.timestamp("us"))]))
    names.learn([clicks, RelationInfo("users", "table", pa.schema([("uid", pa.int64())]))])
    return names


@pytest.mark.parametrize(
    ("typed", "behind", "completions"),
    [
        ("SELECT * FROM cl", "", ["clicks"]),
        ("SELECT * FROM ", "", ["clicks", "users"]),
        (r"\d us", "", ["users"]),
        ("\\", "", list(NAMES)),
        ("SELECT u", " FROM clicks", ["url", "users", "unbounded", "union", "update", "using"]),
        ("SELECT ui", "", ["uid"]),
        ("SELECT ui", " FROM clicks", []),
        ("SELECT clicks.u", " FROM clicks", ["url"]),
        ("SELECT c.", " FROM users AS u JOIN clicks AS c", ["url", "at"]),
        ("SELECT x.", " FROM clicks AS c", []),
        ("SELECT QUAL", "", ["QUALIFY"]),
        ("SELECT date_tru", "", ["date_trunc"]),
        ("SELECT ", "", []),
    ],
)
def test_completion(names: Names, typed: str, behind: str, completions: list[str]) -> None:
    """Depends on what is before the word, and on the relations that are named anywhere."""
    found = [name for name, kind in names.complete(typed, typed + behind) if kind != "function" or name.startswith("date_tru")]
    assert found == completions


def test_functions_that_reach_outside_are_not_offered(names: Names) -> None:
    """Nor are operators."""
    assert {"sum", "date_trunc", "unnest"} <= set(names.functions)
    assert not {"read_csv", "getenv", "+"} & set(names.functions)


@pytest.mark.parametrize(
    ("line", "command"),
    [
        (r"\d", List()),
        (r"\d clicks;", DescribeRelation("clicks")),
        (r'\d "my clicks"', DescribeRelation('"my clicks"')),
        (r"\watch", Switch("watch", None)),
        (r"\timing off", Switch("timing", False)),
        (r"\?", Help()),
        (r"\q", Quit()),
    ],
)
def test_commands(line: str, command: ShellLine) -> None:
    """They are words on a line."""
    assert parse_command(line) == command


@pytest.mark.parametrize("line", ["\\", r"\x", r"\watch maybe", r"\q now"])
def test_wrong_commands(line: str) -> None:
    """Say where the right ones are listed."""
    with pytest.raises(UsageError, match=r"\\\? lists those"):
        parse_command(line)


def test_arguments() -> None:
    """A shell without a terminal prints changes."""
    command = parse_arguments(["shell", "-r", "f=a.csv", "--watermark", "f=ts", "--timing"]).command
    assert isinstance(command, ShellCommand)
    assert (command.interactive, command.watch, command.timing) == (False, False, True)
    assert (command.relations, command.watermarks) == ((("f", "a.csv"),), {"f": "ts"})
