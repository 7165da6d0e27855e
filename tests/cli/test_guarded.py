"""The program against a service that asks for a token and for a certificate, over HTTPS."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import anyio
import anyio.from_thread
import pytest
import trustme

import streamq
from streamq.config.tokens import Tokens, make_token, read_tokens
from streamq.server import app, listen, serve, server_context
from tests.cli.conftest import BACKENDS, Program


@dataclass(frozen=True)
class Guarded:
    """The address of the service, what it takes, and the files that a client needs."""

    url: str
    token: str
    authority: str
    certificate: str
    other: str

    @property
    def tls(self) -> tuple[str, ...]:
        return "--ca-file", self.authority, "--cert-file", self.certificate


@asynccontextmanager
async def served(tls: ssl.SSLContext, tokens: Tokens) -> AsyncIterator[str]:
    async with streamq.connect(executor="thread", workers=1) as db, anyio.create_task_group() as tasks:
        yield await tasks.start(partial(serve, app(db, tokens=tokens), listen("127.0.0.1", 0), tls=tls, grace_s=1))
        tasks.cancel_scope.cancel()


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    folder = tmp_path_factory.mktemp("guarded")
    authority, other = trustme.CA(), trustme.CA()
    names = {"authority": authority.cert_pem, "other": other.cert_pem}
    for name, issued in (("server", authority.issue_cert("127.0.0.1")), ("client", authority.issue_cert("me@example.org"))):
        names[name] = issued.private_key_and_cert_chain_pem
    for name, pem in names.items():
        pem.write_to_path(str(folder / name))
    token, line = make_token("me", "read")
    (folder / "tokens").write_text(f"{line}\n")
    tls = server_context(folder / "server", folder / "server", folder / "authority")
    with (
        anyio.from_thread.start_blocking_portal(BACKENDS[0]) as portal,
        portal.wrap_async_context_manager(served(tls, read_tokens(folder / "tokens"))) as url,
    ):
        yield Guarded(url, token, str(folder / "authority"), str(folder / "client"), str(folder / "other"))


@pytest.fixture(autouse=True)
def environment(guarded: Guarded, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything right, but for certificates, which have no variables."""
    monkeypatch.setenv("STREAMQ_URL", guarded.url)
    monkeypatch.setenv("STREAMQ_TOKEN", guarded.token)


@pytest.mark.parametrize("backend", BACKENDS)
def test_who_shows_all_that_is_asked_for_is_let_in(program: Program, guarded: Guarded, backend: str) -> None:
    """The token is in the environment, or in a file."""
    assert program("queries", *guarded.tls, "--backend", backend).text() == "no query runs\n"


def test_a_token_may_be_in_a_file(program: Program, guarded: Guarded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which counts more than the environment."""
    monkeypatch.setenv("STREAMQ_TOKEN", "wrong")
    (tmp_path / "token").write_text(f"{guarded.token}\n")
    assert program("queries", *guarded.tls, "--token-file", str(tmp_path / "token")).text() == "no query runs\n"


def test_a_wrong_token_is_not_repeated(program: Program, guarded: Guarded, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has an exit code, and so has none."""
    for token in ("streamq_wrong", ""):
        monkeypatch.setenv("STREAMQ_TOKEN", token)
        ended = program("query", "SELECT 1 AS n", *guarded.tls)
        assert (ended.code, ended.out, "token" in ended.err) == (4, b"", True)
        assert "streamq_wrong" not in ended.err


def test_what_a_token_may_not_is_refused(program: Program, guarded: Guarded) -> None:
    """This one may read."""
    assert program("query", "SELECT 1 AS n", *guarded.tls, "--format", "csv").text() == '"n"\n1\n'
    ended = program("query", "CREATE SOURCE s (n INT)", *guarded.tls)
    assert (ended.code, ended.err) == (4, "error: this needs the right admin: the token 'me' has the right read\n")


def test_certificates(program: Program, guarded: Guarded, tmp_path: Path) -> None:
    """Of a service that is not trusted, none shown, files that have none, and keys that cannot be read."""
    unknown = program("queries", "--ca-file", guarded.other, "--cert-file", guarded.certificate)
    assert (unknown.code, "certificate verify failed" in unknown.err) == (4, True)
    assert program("queries", "--ca-file", guarded.authority).code == 4
    (tmp_path / "empty").write_text("nothing")
    for arguments in (("--ca-file", f"{tmp_path}/empty"), ("--ca-file", f"{tmp_path}/none"), ("--cert-file", f"{tmp_path}/empty")):
        wrong = program("queries", *arguments)
        assert (wrong.code, f"error: {arguments[1]} cannot be used as a certificate: " in wrong.err) == (2, True)
