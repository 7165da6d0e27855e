"""Which service a command speaks to, and what it shows it. Secrets come from the environment or files: arguments can be seen by others."""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass, field
from pathlib import Path

from streamq.cli.arguments.common import DatabaseOptions, database_options

URL, TOKEN = "STREAMQ_URL", "STREAMQ_TOKEN"
DEFAULT_URL = "http://127.0.0.1:8471"
"""Where `streamq serve` listens, unless it is told otherwise."""


@dataclass(frozen=True, slots=True)
class ServiceOptions:
    """A service. `ca_file` has the certificates that are trusted, `cert_file` and `key_file` this program's own."""

    url: str
    token: str | None = field(default=None, repr=False)
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None


def add_connection(parser: argparse.ArgumentParser, *, default: str) -> None:
    """Add --url and what belongs to it. `default` says what happens without."""
    group = parser.add_argument_group("the service")
    group.add_argument("--url", metavar="URL", help=f"such as {DEFAULT_URL} (also: {URL} in the environment; default: {default})")
    group.add_argument("--token-file", metavar="FILE", help=f"a file with the token that the service asks for (also: the token in {TOKEN})")
    group.add_argument("--ca-file", metavar="FILE", help="trust the certificates in it (PEM) instead of the usual ones")
    group.add_argument("--cert-file", metavar="FILE", help="the certificate that the service is shown (PEM)")
    group.add_argument("--key-file", metavar="FILE", help="the key of that certificate (PEM), if it is not in the same file")


def service_options(parsed: argparse.Namespace, *, default: str | None) -> ServiceOptions | None:
    """Give the service; None if neither the arguments nor the environment nor `default` name one. The URL '' is none."""
    url = parsed.url if parsed.url is not None else os.environ.get(URL, default)
    if not url:
        for name in ("token_file", "ca_file", "cert_file", "key_file"):
            if getattr(parsed, name) is not None:
                parsed.parser.error(f"--{name.replace('_', '-')} is for a service: give --url too, or {URL} in the environment")
        return None
    if not url.startswith(("http://", "https://")):
        where = "--url" if parsed.url is not None else URL
        parsed.parser.error(f"{where}: {url!r} is no address of a service, such as {DEFAULT_URL}")
    if parsed.key_file is not None and parsed.cert_file is None:
        parsed.parser.error("--key-file is the key of --cert-file: give both")
    return ServiceOptions(url, _token(parsed), parsed.ca_file, parsed.cert_file, parsed.key_file)


def required_service(parsed: argparse.Namespace) -> ServiceOptions:
    """Give the service of a command that is about one."""
    service = service_options(parsed, default=DEFAULT_URL)
    if service is None:
        parser: argparse.ArgumentParser = parsed.parser
        parser.error("this command is about a service: give --url")
    return service


def place_of(parsed: argparse.Namespace) -> DatabaseOptions | ServiceOptions:
    """Give where a command's database is: in a service, or in this program, of which alone the settings can be said."""
    service = service_options(parsed, default=None)
    if service is None:
        return database_options(parsed)
    own = {"-r": parsed.register, "--executor": parsed.executor, "--partitions": parsed.partitions, "--workers": parsed.workers}
    for name, value in own.items():
        if value:
            why = "--url names" if parsed.url is not None else f"{URL} in the environment names"
            parsed.parser.error(f"{name} is for a database of this command, and {why} a service: leave it out, or give --url ''")
    return service


def _token(parsed: argparse.Namespace) -> str | None:
    if parsed.token_file is None:
        return os.environ.get(TOKEN) or None
    try:
        token = Path(parsed.token_file).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        parsed.parser.error(f"--token-file: {parsed.token_file}: {reason}")
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        # What is in the file is not repeated, whatever it is.
        parsed.parser.error(f"--token-file: {parsed.token_file}: there is not one token in it")
    return token
