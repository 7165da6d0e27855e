"""Errors that only a service has, each with the status that it is answered with. Clients get the class that these are made of."""

from __future__ import annotations

from typing import ClassVar

from streamq.errors import ResourceLimit, SourceError, StreamqError, Unauthorized


class Refusal:
    """An error that has a status of its own."""

    status: ClassVar[int]


class Forbidden(Refusal, Unauthorized):
    """The token is known, and does not suffice."""

    status: ClassVar = 403


class CrossSite(Refusal, StreamqError):
    """A browser makes a request for a page of another site."""

    status: ClassVar = 403


class Stalled(Refusal, SourceError):
    """What a client had begun to send did not go on."""

    status: ClassVar = 408


class TooLarge(Refusal, ResourceLimit):
    """A request is larger than the service takes."""

    status: ClassVar = 413


class Misdirected(Refusal, StreamqError):
    """A request calls the service by a name that is not its own."""

    status: ClassVar = 421
