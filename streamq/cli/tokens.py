"""`streamq token`: a new token, and its line for a token file."""

from __future__ import annotations

import os
from pathlib import Path

from streamq.cli.arguments import TokenCommand, UsageError
from streamq.config.tokens import make_token, read_names


def run_token(command: TokenCommand) -> None:
    """Make a token, and print it.

    Raises:
        UsageError: the name cannot be one, or there is one of this name in the file; or the file is none.
        OSError: the file cannot be read or written.
    """
    try:
        token, line = make_token(command.name, command.right)
        if command.file is None:
            print(f"token (shown only now):      {token}\nline for the token file:     {line}")
            return
        path = Path(command.file)
        if path.exists() and path.stat().st_size:
            if command.name in read_names(path):
                raise UsageError(f"{path} has a token {command.name!r}: take its line out first, or choose another name")
            line = line if path.read_bytes().endswith(b"\n") else "\n" + line
    except ValueError as error:
        raise UsageError(str(error)) from error
    # Whoever else reads the file learns names and rights, but no token.
    with open(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "w", encoding="utf-8") as file:
        file.write(line + "\n")
    print(token)
