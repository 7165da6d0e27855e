"""What a value must be to be a setting."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any


class WrongSetting(ValueError):
    """A setting has a value that it cannot have. `name` is the setting."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(message)
        self.name = name


def about(help: str, *, flag: str | None = None, metavar: str | None = None, least: float | None = None) -> Mapping[str, Any]:
    """Give the metadata of a dataclass field that is a setting: what the command line says of it.

    `flag` is its option there, where that is not the name with dashes. A number must be at least `least`; above 0, if that is 0 and it is
    no whole number.
    """
    return {"help": help, "flag": flag, "metavar": metavar, "least": least}


def check_numbers(settings: Any) -> None:
    """Check what `about(…, least=…)` says.

    Raises:
        WrongSetting: a number is too small.
    """
    for field in fields(settings):
        least, value = field.metadata.get("least"), getattr(settings, field.name)
        if least is None or value is None:
            continue
        above = isinstance(value, float) and least == 0
        # Written so that what is no number is refused too.
        if not value >= least or (above and value == 0):
            raise WrongSetting(field.name, f"{field.name} must be {'above' if above else 'at least'} {least}, not {value}")
