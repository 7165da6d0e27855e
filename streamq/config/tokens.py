"""Who may use a service: bearer tokens, of which it knows only the hashes.

A token is 256 random bits, so its SHA-256 cannot be reversed by trying. A token file has a line ``NAME:RIGHTS:HASH`` for each; empty lines
and those that begin with ``#`` say nothing. No message of this module repeats what a file or a client gave as a token.
"""

from __future__ import annotations

import hmac
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Literal, get_args

Right = Literal["read", "write", "admin"]
RIGHTS: tuple[Right, ...] = get_args(Right)
"""Each includes those before it."""

_PREFIX = "streamq_"
"""By which those who look for secrets in files know a token."""
_NAME = re.compile(r"[A-Za-z0-9_.@-]+\Z")
_HASH = re.compile(r"[0-9a-f]{64}\Z")


class WrongTokens(ValueError):
    """A token file cannot be used. The message begins with its name, and has no token in it."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who makes a request: the name of a token, and what it may do. `name` is empty where there are no tokens."""

    name: str
    right: Right

    def may(self, right: Right) -> bool:
        """Tell whether this right is included.

        >>> Caller("ops", "write").may("read"), Caller("ops", "write").may("admin")
        (True, False)
        """
        return RIGHTS.index(self.right) >= RIGHTS.index(right)


ANYONE = Caller("", "admin")
"""Who makes a request where there are no tokens."""


@dataclass(frozen=True, slots=True)
class Token:
    """A token as a service knows it."""

    caller: Caller
    hash: bytes = field(repr=False)


class Tokens:
    """The tokens of a service."""

    def __init__(self, tokens: Iterable[Token]) -> None:
        self._tokens = tuple(tokens)

    def find(self, text: str) -> Caller | None:
        """Tell whose token this is; None if it is nobody's. Takes the same time for any text of one length."""
        given = sha256(text.encode()).digest()
        found = None
        for token in self._tokens:
            if hmac.compare_digest(token.hash, given):
                found = token.caller
        return found

    def __len__(self) -> int:
        return len(self._tokens)


def read_tokens(path: Path) -> Tokens:
    """Read the token file of a service.

    Raises:
        WrongTokens: a line is none of a token file, a name is there twice, or there is no token at all.
        OSError: it cannot be read.
    """
    tokens = _read(path)
    if not tokens:
        raise WrongTokens(f"{path} has no token: `streamq token --name NAME --rights read --file {path}` makes one")
    return Tokens(tokens.values())


def read_names(path: Path) -> frozenset[str]:
    """Tell whose tokens a file has, which may be nobody's yet.

    Raises:
        WrongTokens: a line is none of a token file, or a name is there twice.
        OSError: it cannot be read.
    """
    return frozenset(_read(path))


def make_token(name: str, right: Right) -> tuple[str, str]:
    """Make a new token, and its line for the file.

    Raises:
        ValueError: the name has other characters than letters, digits and ``_.@-``.
    """
    if not _NAME.match(name):
        raise ValueError(f"the name of a token is letters, digits and _.@-, not {name!r}")
    text = _PREFIX + secrets.token_urlsafe(32)
    return text, f"{name}:{right}:{sha256(text.encode()).hexdigest()}"


def _read(path: Path) -> dict[str, Token]:
    """Read a token file: tokens by their names."""
    tokens: dict[str, Token] = {}
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        raise WrongTokens(f"{path} is no text") from None
    for number, line in enumerate(map(str.strip, lines), 1):
        if not line or line.startswith("#"):
            continue
        token = _token(line, f"{path}, line {number}")
        if token.caller.name in tokens:
            raise WrongTokens(f"{path}, line {number}: there is another token {token.caller.name!r}")
        tokens[token.caller.name] = token
    return tokens


def _token(line: str, where: str) -> Token:
    name, _, rest = line.partition(":")
    right, _, digest = rest.partition(":")
    known = next((known for known in RIGHTS if known == right), None)
    if not _NAME.match(name) or known is None or not _HASH.match(digest):
        raise WrongTokens(f"{where} is not NAME:RIGHTS:HASH, with the rights {', '.join(RIGHTS)}, as `streamq token` makes it")
    return Token(Caller(name, known), bytes.fromhex(digest))
