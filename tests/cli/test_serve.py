"""`streamq serve` and `streamq token`: where settings come from, what is refused, what is logged, how a service is renewed and ended."""

from __future__ import annotations

import json
import os
import signal
import ssl
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
import trustme

import streamq
from streamq.cli.app import run
from streamq.config.tokens import Right, make_token, read_tokens
from tests.waiting import pause

PATIENCE_S = 60


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current directory, and no settings in the environment."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("STREAMQ_")]:
        monkeypatch.delenv(name)
    return tmp_path


def printed_config(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert run(["serve", "--print-config", *arguments]) == 0
    return capsys.readouterr().out


# Settings


def test_where_settings_come_from(directory: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """An option goes before a variable, that before the file, and that before the default; each is said."""
    (directory / "streamq.toml").write_text("port = 1\nmax_queries = 1\nstall_s = 1\nhosts = ['a.example']\nworkers = 1\ninsecure = true\n")
    for name, value in {"PORT": "2", "MAX_QUERIES": "2", "HOSTS": "b.example, c.example", "MEMORY_BYTES": "2_000"}.items():
        monkeypatch.setenv(f"STREAMQ_{name}", value)
    lines = printed_config(capsys, "--port", "3", "--executor", "thread", "--grace", "3").splitlines()
    expected = """\
        port = 3  # --port
        max_queries = 2  # STREAMQ_MAX_QUERIES
        hosts = ["b.example", "c.example"]  # STREAMQ_HOSTS
        stall_s = 1.0  # streamq.toml
        workers = 1  # streamq.toml
        insecure = true  # streamq.toml
        memory_bytes = 2000  # STREAMQ_MEMORY_BYTES
        executor = "thread"  # --executor
        shutdown_s = 3.0  # --grace
        host = "127.0.0.1"  # default
        # token_file is not set"""
    assert {line.strip() for line in expected.splitlines()} <= set(lines)


def test_what_is_printed_is_a_file(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Used as one, it says the same again."""
    first = printed_config(capsys, "--max-query-s", "1.5", "-r", "flights=a b/*.parquet", "--hosts", "a.example")
    (directory / "other.toml").write_text(first)
    again = printed_config(capsys, "--config", "other.toml")
    assert tomllib.loads(again) == tomllib.loads(first)
    assert "max_query_s = 1.5  # other.toml" in again


def test_files_are_relative_to_where_they_were_written(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Those of a configuration file are beside it; those of the command line are in the current directory."""
    (directory / "etc").mkdir()
    (directory / "etc" / "streamq.toml").write_text(
        'token_file = "tokens"\n[relations]\nflights = ["a.csv", "/b.csv"]\nclicks = { path = "c.csv", watermark = "ts" }\n'
    )
    said = tomllib.loads(
        printed_config(capsys, "--config", "etc/streamq.toml", "--client-ca", "ca", "--certificate", "c", "--private-key", "k")
    )
    assert (said["token_file"], said["client_ca"]) == ("etc/tokens", "ca")
    assert said["relations"] == {"flights": ["etc/a.csv", "/b.csv"], "clicks": {"path": "etc/c.csv", "watermark": "ts"}}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("port = ", "streamq.toml is no TOML"),
        ("max_querys = 3", "streamq.toml: there is no setting 'max_querys': is it 'max_query_s'?"),
        ("port = 'x'", "streamq.toml: port must be a whole number, not 'x'"),
        ("port = true", "streamq.toml: port must be a whole number, not True"),
        ("port = 70000", "streamq.toml: port must be at most 65535, not 70000"),
        ("max_queries = 0", "streamq.toml: max_queries must be at least 1, not 0"),
        ("max_query_s = 0", "streamq.toml: max_query_s must be above 0, not 0"),
        ("executor = 'fast'", "streamq.toml: executor must be auto, process or thread, not 'fast'"),
        ("hosts = 'a'", "streamq.toml: hosts must be a list of texts, not 'a'"),
        ("certificate = 'a'", "streamq.toml: certificate needs private_key too"),
        ("client_ca = 'a'", "streamq.toml: client_ca needs certificate and private_key too"),
        ("relations = 3", "streamq.toml: [relations] has lines like"),
        ("relations.a = { paths = 'a' }", "streamq.toml: relation 'a' must be a path, a list of paths"),
    ],
)
def test_wrong_files(directory: Path, capsys: pytest.CaptureFixture[str], text: str, message: str) -> None:
    """What is wrong is said with the file's name."""
    (directory / "streamq.toml").write_text(text)
    assert run(["serve"]) == 2
    assert message in " ".join(capsys.readouterr().err.split())


def test_wrong_variables_options_and_other_files(
    directory: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """They name the variable, the option, the file."""
    certificate = ("--certificate", "c.pem", "--private-key", "k.pem")
    for name in ("c.pem", "k.pem", "ca.pem", "tokens"):
        (directory / name).write_text("ops:read:secret")
    cases = [
        (2, ["--port", "99999"], "--port: port must be at most 65535"),
        (2, ["--host", "0.0.0.0"], "will not listen on 0.0.0.0, where other machines can connect, without tokens"),
        (2, ["--token-file", "tokens"], "tokens, line 1 is not NAME:RIGHTS:HASH"),
        (1, ["--token-file", "nowhere"], "nowhere: No such file or directory"),
        (1, ["--config", "nowhere.toml"], "nowhere.toml: No such file or directory"),
        (2, certificate, "c.pem and k.pem are no certificate chain with its key"),
        (1, ("--certificate", "c.pem", "--private-key", "nowhere"), "nowhere: No such file or directory"),
    ]
    for code, arguments, message in cases:
        assert run(["serve", *arguments]) == code
        captured = capsys.readouterr()
        assert captured.out == ""
        said = " ".join(captured.err.split())
        assert message in said
        assert "secret" not in said
    monkeypatch.setenv("STREAMQ_STALL_S", "soon")
    assert run(["serve"]) == 2
    assert "STREAMQ_STALL_S: stall_s must be a number, not 'soon'" in capsys.readouterr().err


# Tokens


def test_a_token(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is shown once, with the line that a file needs; or the line goes there, which has only the hash."""
    assert run(["token", "--name", "ops", "--rights", "write"]) == 0
    shown, line = (said.split()[-1] for said in capsys.readouterr().out.splitlines())
    (directory / "tokens").write_text(line)
    assert run(["token", "--name", "grafana", "--rights", "read", "--file", "tokens"]) == 0
    appended = capsys.readouterr().out.strip()
    tokens = read_tokens(directory / "tokens")
    found = [tokens.find(token) for token in (shown, appended)]
    assert [caller and (caller.name, caller.right) for caller in found] == [("ops", "write"), ("grafana", "read")]
    assert appended not in (directory / "tokens").read_text()
    assert run(["token", "--name", "ops", "--rights", "read", "--file", "tokens"]) == 2
    assert "tokens has a token 'ops'" in capsys.readouterr().err
    assert run(["token", "--name", "o ps", "--rights", "read"]) == 2
    (directory / "begun").write_text("# who may use it")
    assert run(["token", "--name", "a", "--rights", "read", "--file", "begun"]) == 0
    assert len(read_tokens(directory / "begun")) == 1
    assert run(["token", "--name", "a", "--rights", "read", "--file", "new"]) == 0
    assert (directory / "new").stat().st_mode & 0o777 == 0o600


# The service


@contextmanager
def served(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Start a service on a free port; gives its process and address."""
    command = [sys.executable, "-m", "streamq", "serve", "--port", "0", "--workers", "1", "--executor", "thread", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(Path(streamq.__file__).parent.parent)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment) as process:
        try:
            assert process.stdout is not None
            yield process, process.stdout.readline().removeprefix("streamq serves ").strip()
        finally:
            process.kill()


async def until_known(url: str, token: str, tls: ssl.SSLContext) -> None:
    async with httpx.AsyncClient(base_url=url, headers={"authorization": f"Bearer {token}"}, verify=tls, trust_env=False) as http:
        with anyio.fail_after(PATIENCE_S):
            while (await http.get("/v1/relations")).status_code == 401:
                await pause()


def test_a_guarded_service_from_its_start_to_its_end() -> None:
    """HTTPS and tokens; SIGHUP brings new ones; SIGTERM ends it, and everybody is told; the log has it all but the secrets."""
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    certificate.cert_chain_pems[0].write_to_path("server.pem")
    certificate.private_key_pem.write_to_path("server.key")
    tls = ssl.create_default_context()
    authority.configure_trust(tls)

    def new_token(name: str, right: Right) -> str:
        token, line = make_token(name, right)
        with open("tokens", "a") as file:
            file.write(line + "\n")
        return token

    async def use(process: subprocess.Popen[str], url: str, admin: str) -> str:
        connect = partial(streamq.connect, url, tls=tls)
        async with connect(token="streamq_unknown") as db:
            with pytest.raises(streamq.Unauthorized):
                await db.relations()
        async with connect(token=admin) as db:
            await db.execute("CREATE SOURCE events (n BIGINT)")
            reader = new_token("reader", "read")
            process.send_signal(signal.SIGHUP)
            await until_known(url, reader, tls)
            async with connect(token=reader) as other, other.query("SELECT n FROM events EMIT CHANGES") as stream:
                with pytest.raises(streamq.Unauthorized):
                    await other.execute("DROP SOURCE events")
                process.send_signal(signal.SIGTERM)
                with pytest.raises(streamq.ConnectionLost, match="shut down"), anyio.fail_after(PATIENCE_S):
                    await anext(stream)
                query_id = stream.query_id
            return f"{reader} {query_id}"

    admin = new_token("admin", "admin")
    guarded = ["--token-file", "tokens", "--certificate", "server.pem", "--private-key", "server.key", "--log-format", "json"]
    with served(*guarded, "--grace", "0.2") as (process, url):
        assert url.startswith("https://127.0.0.1:")
        reader, query_id = anyio.run(use, process, url, admin).split()
        assert process.wait(PATIENCE_S) == 143
        assert process.stderr is not None
        text = process.stderr.read()
    assert admin not in text
    assert reader not in text
    records: list[dict[str, Any]] = [json.loads(line) for line in text.splitlines()]
    events = [(record.get("event"), record.get("status"), record.get("token")) for record in records]
    assert ("request_refused", 401, None) in events
    assert ("request_refused", 403, "reader") in events
    assert [event for event, _, _ in events if event in ("service_started", "renewed", "service_stopping")] == [
        "service_started",
        "renewed",
        "service_stopping",
    ]
    assert {"query_started", "query_cancelled", "request"} <= {record["event"] for record in records if record.get("query_id") == query_id}
