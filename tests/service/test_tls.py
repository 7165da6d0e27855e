"""The service over HTTPS, on both event loops: results, who leaves, certificates of both sides."""

from __future__ import annotations

import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import anyio
import httpx
import pyarrow as pa
import pytest
import trustme

import streamq
from streamq.server import app, listen, serve, server_context
from streamq.server.tls import WrongCertificate, load_certificate
from tests.service.conftest import PATIENCE_S, wait_until_idle

pytestmark = pytest.mark.anyio
ROWS = 2_000_000


@dataclass(frozen=True)
class Certificates:
    """An authority, and the files of a server that it knows."""

    authority: trustme.CA
    certificate: Path
    private_key: Path
    authority_file: Path

    def client(self, *, known: bool = True) -> ssl.SSLContext:
        """Give what a client trusts, and shows, if it is `known`."""
        context = ssl.create_default_context()
        self.authority.configure_trust(context)
        if known:
            self.authority.issue_cert("client@example.org").configure_cert(context)
        return context


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    folder = tmp_path_factory.mktemp("certificates")
    made = Certificates(trustme.CA(), folder / "server.pem", folder / "server.key", folder / "authority.pem")
    issued = made.authority.issue_cert("127.0.0.1", "localhost")
    issued.cert_chain_pems[0].write_to_path(str(made.certificate))
    issued.private_key_pem.write_to_path(str(made.private_key))
    made.authority.cert_pem.write_to_path(str(made.authority_file))
    return made


@asynccontextmanager
async def serving(database: streamq.Database, tls: ssl.SSLContext) -> AsyncIterator[str]:
    """Serve a database over HTTPS, and give its URL."""
    async with anyio.create_task_group() as tasks:
        yield await tasks.start(partial(serve, app(database), listen("127.0.0.1", 0), tls=tls, grace_s=1.0))
        tasks.cancel_scope.cancel()


async def batches(count: int) -> AsyncIterator[pa.Table]:
    for _ in range(count):
        yield pa.table({"n": pa.arange(0, 100_000)})


async def test_results_and_who_leaves(home: streamq.Database, certificates: Certificates) -> None:
    """Both versions of HTTP give whole results, rows go in, an error is told, and nothing is left of a query whose client has gone."""
    await home.register("numbers", pa.table({"n": pa.arange(0, ROWS)}))
    await home.execute("CREATE SOURCE events (n BIGINT)")
    tls = certificates.client(known=False)
    async with serving(home, server_context(certificates.certificate, certificates.private_key)) as url:
        assert url.startswith("https://127.0.0.1:")
        async with streamq.connect(url, tls=tls) as db:
            assert (await db.insert("events", [{"n": 1}, {"n": 2}])).rows == 2
            assert (await db.fetch("SELECT n FROM numbers")).num_rows == ROWS
            await db.execute("CREATE SOURCE finished (n BIGINT)")
            await db.finish("finished")
            # However much it would still send, the client hears why no more is wanted.
            with pytest.raises(streamq.SourceError, match="finished"):
                await db.insert("finished", batches(200))
            assert (await db.insert("events", batches(1))).rows == 100_000
            with pytest.raises(streamq.DataError):
                await db.fetch("SELECT 1 // (n - 2) AS x FROM events")
            async with db.query("SELECT n FROM events EMIT CHANGES") as stream:
                assert (await anext(stream)).num_rows > 2
        await wait_until_idle(home)
        client = partial(httpx.AsyncClient, base_url=url, trust_env=False, timeout=PATIENCE_S)
        for version in ("HTTP/1.1", "HTTP/2"):
            async with client(verify=certificates.client(known=False), http2=version == "HTTP/2") as http:
                whole = await http.post("/v1/query", json={"sql": "SELECT n FROM numbers LIMIT 100000"})
                assert whole.http_version == version
                assert pa.ipc.open_stream(whole.content).read_all().num_rows == 100_000
        for sql in ("SELECT n, n + 1 AS m FROM numbers", "SELECT n FROM events EMIT CHANGES"):
            body = json.dumps({"sql": sql})
            head = f"POST /v1/query HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
            port = int(url.rpartition(":")[2])
            async with await anyio.connect_tcp("127.0.0.1", port, ssl_context=tls, tls_standard_compatible=False) as stream:
                await stream.send(f"{head}{body}".encode())
                await stream.receive()
                assert len(await home.queries()) == 1
            await wait_until_idle(home)


async def test_certificates_of_clients(home: streamq.Database, certificates: Certificates) -> None:
    """With an authority for clients, who shows no certificate of it is not let in; who does not trust the service does not ask it."""
    context = server_context(certificates.certificate, certificates.private_key, certificates.authority_file)
    async with serving(home, context) as url:
        async with streamq.connect(url, tls=certificates.client()) as db:
            assert (await db.fetch("SELECT 42 AS answer")).to_pylist() == [{"answer": 42}]
        other = trustme.CA()
        stranger = certificates.client(known=False)
        other.issue_cert("client@example.org").configure_cert(stranger)
        for tls in (certificates.client(known=False), stranger):
            async with streamq.connect(url, tls=tls) as db:
                with pytest.raises(streamq.ConnectionLost, match=r"(?i)certificate|alert|handshake|broke|unknown"):
                    await db.fetch("SELECT 1")
        async with streamq.connect(url) as db:
            with pytest.raises(streamq.ConnectionLost, match="certificate verify failed"):
                await db.fetch("SELECT 1")
        # Who speaks no TLS is let go, and disturbs nobody.
        async with streamq.connect(url.replace("https:", "http:")) as db:
            with pytest.raises(streamq.ConnectionLost):
                await db.fetch("SELECT 1")
        async with streamq.connect(url, tls=certificates.client()) as db:
            assert await db.queries() == ()


async def test_a_certificate_without_its_key_changes_nothing(home: streamq.Database, certificates: Certificates, tmp_path: Path) -> None:
    """While only one of two new files is there, the service goes on with what it had."""
    context = server_context(certificates.certificate, certificates.private_key)
    renewed = tmp_path / "renewed.pem"
    certificates.authority.issue_cert("127.0.0.1").cert_chain_pems[0].write_to_path(str(renewed))
    with pytest.raises(WrongCertificate):
        load_certificate(context, renewed, certificates.private_key)
    async with serving(home, context) as url, streamq.connect(url, tls=certificates.client(known=False)) as db:
        assert (await db.fetch("SELECT 42 AS answer")).to_pylist() == [{"answer": 42}]


def test_files_that_are_no_certificates(certificates: Certificates, tmp_path: Path) -> None:
    """The message names them, and what they should be; a key with a password is not asked for it."""
    wrong = tmp_path / "wrong.pem"
    wrong.write_text("-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n")
    certificate, key = certificates.certificate, certificates.private_key
    foreign = tmp_path / "foreign.key"
    trustme.CA().issue_cert("localhost").private_key_pem.write_to_path(str(foreign))
    for files in [(wrong, key), (certificate, wrong), (certificate, foreign)]:
        with pytest.raises(WrongCertificate, match=f"{files[0]} and {files[1]} are no certificate chain with its key"):
            server_context(*files)
    with pytest.raises(WrongCertificate, match=r"wrong\.pem has no certificates in PEM"):
        server_context(certificate, key, wrong)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        server_context(certificate, tmp_path / "nowhere")
