"""Errors that only a service has, each with the status that it is answered with. Clients get the class that these are made of."""

from __future__ import annotations

from typing import ClassVar

from streamq.errors import ResourceLimit, SourceError, StreamqError, Unauthorized


class Forbidden(Unauthorized):
    """The token is known, and does not suffice."""

    status: ClassVar = 403


class CrossSite(StreamqError):
    """A browser makes a request for a page of another site."""

    status: ClassVar = 403


class Stalled(SourceError):
    """What a client had begun to send did not go on."""

    status: ClassVar = 408


class TooLarge(ResourceLimit):
    """A request is larger than the service takes."""

    status: ClassVar = 413


class Misdirected(StreamqError):
    """A request calls the service by a name that is not its own."""

    status: ClassVar = 421
