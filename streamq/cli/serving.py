"""`streamq serve`: a database over HTTP, until a signal ends it."""

from __future__ import annotations

import importlib.util

import anyio
import anyio.lowlevel

from streamq.cli.arguments import ServeCommand, UsageError
from streamq.cli.opening import open_database

_NEEDED = ("hypercorn", "starlette")


async def run_serve(command: ServeCommand) -> None:
    """Serve until the task is cancelled. Once clients can connect, the address is on standard output.

    Raises:
        UsageError: what it needs is not installed, or others than this machine could connect to the host.
        OSError: the address cannot be listened on.
    """
    if missing := [name for name in _NEEDED if importlib.util.find_spec(name) is None]:
        raise UsageError(f"streamq serve needs {' and '.join(missing)}: pip install 'streamq[service]'")
    from streamq.server import app, listen, serve

    try:
        listener = listen(command.host, command.port)
    except ValueError as error:
        raise UsageError(str(error)) from error
    stop = anyio.Event()
    with listener:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_set_when_cancelled, stop)
            # The end is the service's own: were the database cancelled with it, its queries would have no time of grace.
            with anyio.CancelScope(shield=True):
                async with open_database(command.database) as db:
                    for name, path in command.relations:
                        await db.register(name, path)
                    await serve(app(db), listener, grace_s=command.grace_s, until=stop.wait, ready=_tell)
    # The signal that ended it is the program's exit code.
    await anyio.lowlevel.checkpoint()


async def _set_when_cancelled(event: anyio.Event) -> None:
    try:
        await anyio.sleep_forever()
    finally:
        event.set()


def _tell(url: str) -> None:
    print(f"streamq serves {url}", flush=True)
