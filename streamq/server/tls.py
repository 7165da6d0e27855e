"""HTTPS: the certificate of a service, and those that it asks its clients for."""

from __future__ import annotations

import ssl
from os import PathLike

Path = str | PathLike[str]


class WrongCertificate(ValueError):
    """A file has no certificate or key that can be used. The message begins with its name."""


def server_context(certificate: Path, private_key: Path, client_ca: Path | None = None) -> ssl.SSLContext:
    """Make the context of a service that has a certificate chain and its key, in PEM.

    With `client_ca` clients need a certificate that one of those in this file has signed.

    Raises:
        WrongCertificate: a file has something else in it, or the key is not that of the certificate.
        OSError: a file cannot be read.
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.set_alpn_protocols(["h2", "http/1.1"])
    load_certificate(context, certificate, private_key)
    if client_ca is not None:
        _check_readable(client_ca)
        try:
            context.load_verify_locations(client_ca)
        except ssl.SSLError as error:
            raise WrongCertificate(f"{client_ca} has no certificates in PEM: {_reason(error)}") from None
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def load_certificate(context: ssl.SSLContext, certificate: Path, private_key: Path) -> None:
    """Give a context a certificate, a new one in place of that which expires: connections from now on have it.

    Raises:
        WrongCertificate, OSError: see `server_context`. The context is as it was.
    """
    _check_readable(certificate)
    _check_readable(private_key)
    try:
        # First into another one: a context that gets a certificate without its key loses the key that it had. And without a password:
        # OpenSSL would ask the terminal for it.
        for each in (ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), context):
            each.load_cert_chain(certificate, private_key, password=lambda: "")
    except ssl.SSLError as error:
        message = f"{certificate} and {private_key} are no certificate chain with its key, in PEM and without a password: {_reason(error)}"
        raise WrongCertificate(message) from None


def _check_readable(path: Path) -> None:
    # OpenSSL does not say which file it could not open.
    with open(path, "rb"):
        pass


def _reason(error: ssl.SSLError) -> str:
    return (error.reason or str(error)).replace("_", " ").lower()
