"""Processes that answer over HTTP on this machine: `streamq serve`, and a bare application on the same libraries."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import anyio
import psutil
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.routing import Route

from benchmarks.measure import resident

SAMPLE_S = 0.2


@dataclass(frozen=True, slots=True)
class Service:
    """A process that answers at `url`, and those that it starts."""

    url: str
    process: psutil.Process

    def resident_bytes(self) -> int:
        """Give the memory of all its processes. Pages that several of them share count once, where the system tells."""
        return sum(resident(process) for process in self._processes())

    def cpu_s(self) -> float:
        """Give the processor time that its processes have had."""
        return sum(sum(process.cpu_times()[:2]) for process in self._processes())

    def threads(self) -> int:
        return sum(int(process.num_threads()) for process in self._processes())

    def descriptors(self) -> int:
        return int(self.process.num_fds())

    def _processes(self) -> list[psutil.Process]:
        return [self.process, *self.process.children(recursive=True)]


@contextmanager
def streamq_serve(*arguments: str, memory_bytes: int) -> Iterator[Service]:
    """Run `streamq serve` on a free port of loopback."""
    environment = {**os.environ, "STREAMQ_MEMORY_BYTES": str(memory_bytes)}
    command = ["-m", "streamq", "serve", "--port", "0", "--log-level", "error", "--grace", "1", *arguments]
    with _running(command, environment) as service:
        yield service


@contextmanager
def bare_server(backend: str) -> Iterator[Service]:
    """Run the bare application, which sends as many bytes as it is asked for, in pieces of the size it is asked for."""
    with _running(["-m", "benchmarks.served", backend], dict(os.environ)) as service:
        yield service


@contextmanager
def _running(arguments: list[str], environment: dict[str, str]) -> Iterator[Service]:
    with subprocess.Popen([sys.executable, *arguments], stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            assert process.stdout is not None
            said = process.stdout.readline().split()
            if not said:
                raise SystemExit(f"{' '.join(arguments)} did not start")
            yield Service(said[-1], psutil.Process(process.pid))
        finally:
            process.terminate()


class Peak:
    """The most memory that a service had while this was watched."""

    def __init__(self, service: Service) -> None:
        self.bytes = service.resident_bytes()
        self._service = service

    async def watch(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            self.bytes = max(self.bytes, await anyio.to_thread.run_sync(self._service.resident_bytes))
            await anyio.sleep(SAMPLE_S)


async def _send(request: Request) -> StreamingResponse:
    size, piece = (int(request.query_params[name]) for name in ("bytes", "piece"))
    data = os.urandom(piece)

    async def body() -> AsyncIterator[bytes]:
        for start in range(0, size, piece):
            yield data[: size - start]

    return StreamingResponse(body(), media_type="application/octet-stream")


async def _serve_bare(backend: str) -> None:
    from hypercorn.config import Config

    match backend:
        case "trio":
            from hypercorn.trio import serve
        case _:
            from hypercorn.asyncio import serve  # type: ignore[assignment]
    listener = socket.create_server(("127.0.0.1", 0))
    config = Config()
    config.accesslog = config.errorlog = None
    print(f"http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    config.bind = [f"fd://{listener.detach()}"]
    await serve(Starlette(routes=[Route("/", _send)]), config)  # type: ignore[arg-type]


if __name__ == "__main__":
    anyio.run(_serve_bare, sys.argv[1], backend=sys.argv[1])
