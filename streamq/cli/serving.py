"""`streamq serve`: a database over HTTP, until a signal ends it."""

from __future__ import annotations

import importlib.util
import logging
import os
import signal
import ssl
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import anyio.abc
import anyio.lowlevel

from streamq.cli.arguments import ServeCommand, UsageError
from streamq.cli.serve_settings import ServeSettings, describe_settings, load_settings
from streamq.config import usable_cpus
from streamq.config.service import ServiceConfig
from streamq.config.tokens import Tokens, read_tokens
from streamq.engine import connect
from streamq.execution.freed_memory import keep_freed_memory, share_heaps
from streamq.execution.without_pandas import without_pandas

if TYPE_CHECKING:
    from streamq.server.service import Service

_NEEDED = ("hypercorn", "starlette")
OTHER_DESCRIPTORS = 256
"""What is open besides the connections of queries: files, workers, connections that wait."""
PIECE_BYTES = 1 << 20
"""What is sent at once by a process of its own: larger pieces fall out of a processor's own cache between one copy and the next."""


async def run_serve(command: ServeCommand) -> None:
    """Serve until the task is cancelled. Once clients can connect, the address is on standard output.

    Raises:
        UsageError: what it needs is not installed, a setting is wrong, or others could connect who should not.
        OSError: a file cannot be read, or the address not be listened on.
    """
    settings = load_settings(command, os.environ)
    if command.print_config:
        print(describe_settings(settings), end="")
        return
    if missing := [name for name in _NEEDED if importlib.util.find_spec(name) is None]:
        raise UsageError(f"streamq serve needs {' and '.join(missing)}: pip install 'streamq[service]'")
    with _logging(settings.service):
        _allow_descriptors(settings.limits.max_queries + OTHER_DESCRIPTORS)
        share_heaps(usable_cpus())
        await _serve(settings)
    # The signal that ended it is the program's exit code.
    await anyio.lowlevel.checkpoint()


async def _serve(settings: ServeSettings) -> None:
    from streamq.server import app, check_reach, listen, serve

    config = settings.service
    try:
        tokens, tls = _tokens(config), _tls(config)
        check_reach(config.host, has_tokens=tokens is not None, has_tls=tls is not None, insecure=config.insecure)
    except ValueError as error:
        raise UsageError(str(error)) from error
    stop = anyio.Event()
    with without_pandas(), listen(config.host, config.port, stall_timeout_s=settings.limits.stall_s) as listener:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_set_when_cancelled, stop)
            # The end is the service's own: were the database cancelled with it, its queries would have no time of grace.
            with anyio.CancelScope(shield=True):
                async with connect(**asdict(settings.database)) as db:
                    for relation in settings.relations.values():
                        await db.register(relation.name, relation.paths, watermark=relation.watermark)
                    application = app(db, limits=settings.limits, tokens=tokens, hosts=config.hosts)
                    if keep_freed_memory(4 * PIECE_BYTES, 8 * PIECE_BYTES):
                        application.state.service.piece_bytes = PIECE_BYTES
                    async with anyio.create_task_group() as beside:
                        await beside.start(_renew_on_signal, config, application.state.service, tls)
                        run = partial(serve, application, listener, tls=tls, insecure=config.insecure, grace_s=config.shutdown_s)
                        await run(until=stop.wait, ready=_tell)
                        beside.cancel_scope.cancel()


def _allow_descriptors(wanted: int) -> None:
    """Open as many files as the system lets this process, and say so if these are too few: some clients would be kept waiting."""
    if importlib.util.find_spec("resource") is None:
        return
    import resource

    from streamq.server.logs import LOGGER

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        if soft < wanted:
            LOGGER.warning(
                "the system lets this process open %d files, max_queries may need %d: raise the limit (ulimit -n), or lower max_queries",
                soft,
                wanted,
                extra={"event": "few_descriptors", "limit": soft, "wanted": wanted},
            )


def _tokens(config: ServiceConfig) -> Tokens | None:
    return None if config.token_file is None else read_tokens(Path(config.token_file))


def _tls(config: ServiceConfig) -> ssl.SSLContext | None:
    from streamq.server import server_context

    if config.certificate is None or config.private_key is None:
        return None
    return server_context(config.certificate, config.private_key, config.client_ca)


async def _renew_on_signal(
    config: ServiceConfig, service: Service, tls: ssl.SSLContext | None, *, task_status: anyio.abc.TaskStatus[None]
) -> None:
    """Read tokens and certificates anew when SIGHUP says so. What cannot be read leaves them as they were."""
    if not hasattr(signal, "SIGHUP"):
        task_status.started()
        return
    with anyio.open_signal_receiver(signal.SIGHUP) as signals:
        task_status.started()
        async for _ in signals:
            _renew(config, service, tls)


def _renew(config: ServiceConfig, service: Service, tls: ssl.SSLContext | None) -> None:
    from streamq.server.logs import LOGGER
    from streamq.server.tls import load_certificate

    try:
        tokens = _tokens(config)
        if tls is not None and config.certificate is not None and config.private_key is not None:
            load_certificate(tls, config.certificate, config.private_key)
    except (ValueError, OSError) as error:
        LOGGER.error("tokens and certificates stay as they were: %s", error, extra={"event": "renewal_failed"})
        return
    service.tokens = tokens
    LOGGER.info("tokens and certificates were read anew", extra={"event": "renewed", "tokens": len(tokens or ())})


def _logging(config: ServiceConfig) -> AbstractContextManager[None]:
    """Write the log, unless the command line's own option does."""
    from streamq.server.logs import logging_to_stderr

    if any(not isinstance(handler, logging.NullHandler) for handler in logging.getLogger("streamq").handlers):
        return nullcontext()
    return logging_to_stderr(config.log_format, config.log_level)


async def _set_when_cancelled(event: anyio.Event) -> None:
    try:
        await anyio.sleep_forever()
    finally:
        event.set()


def _tell(url: str) -> None:
    print(f"streamq serves {url}", flush=True)
