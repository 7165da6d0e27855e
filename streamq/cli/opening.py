"""Opens the database that a command is about: one in memory, or that of a service."""

from __future__ import annotations

import importlib.util
import ssl

from streamq.cli.arguments import DatabaseOptions, ServiceOptions, UsageError
from streamq.engine import connect


def open_database(place: DatabaseOptions | ServiceOptions) -> connect:
    """Make a database as the command line says, to be used with ``async with``.

    Raises:
        UsageError: a setting, of the command line or in the environment, is out of range; certificates cannot be used; what a service
            needs is not installed.
    """
    try:
        if isinstance(place, DatabaseOptions):
            return connect(executor=place.executor, target_partitions=place.partitions, workers=place.workers)
        if importlib.util.find_spec("httpx") is None:
            raise UsageError("speaking to a service needs httpx: pip install 'streamq[service]'")
        return connect(place.url, token=place.token, tls=_tls(place))
    except ValueError as error:
        raise UsageError(str(error)) from error


def _tls(service: ServiceOptions) -> ssl.SSLContext | None:
    """Give what certificates are trusted and shown; None for the usual ones, and none.

    Raises:
        UsageError: they cannot be used.
    """
    if service.ca_file is None and service.cert_file is None:
        return None
    reading = service.ca_file
    try:
        context = ssl.create_default_context(cafile=service.ca_file)
        if service.cert_file is not None:
            reading = service.cert_file + (f" with the key {service.key_file}" if service.key_file else "")
            # A password would be asked for on the terminal, in the middle of everything.
            context.load_cert_chain(service.cert_file, service.key_file, password=lambda: "")
    except OSError as error:
        raise UsageError(f"{reading} cannot be used as a certificate: {error.strerror or error}") from error
    return context
