"""What is drawn in place on a terminal."""

from __future__ import annotations

import pytest
from rich.text import Text

from streamq.cli.screen import Screen, over_lines

pytestmark = pytest.mark.anyio


class Terminal:
    """The lines of a terminal that understands what `Screen` writes."""

    def __init__(self) -> None:
        self.lines = [""]
        self.at = 0

    async def write(self, text: str) -> None:
        while text:
            if text.startswith("\x1b["):
                end = next(place for place in range(2, len(text)) if text[place].isalpha())
                self._control(text[2:end], text[end])
                text = text[end + 1 :]
            elif text[0] == "\n":
                self.at += 1
                self.lines += [""] * (self.at + 1 - len(self.lines))
                text = text[1:]
                self.lines[self.at] = self.lines[self.at]
            else:
                part = text.split("\n")[0].split("\x1b")[0]
                self.lines[self.at] = part + self.lines[self.at][len(part) :]
                self._column = len(part)
                text = text[len(part) :]

    def _control(self, number: str, what: str) -> None:
        match what:
            case "F":
                self.at -= int(number)
                self._column = 0
            case "K":
                self.lines[self.at] = self.lines[self.at][: self._column]
            case "J":
                self.lines = [*self.lines[: self.at], ""]
            case _:
                raise AssertionError(what)


async def test_a_picture_takes_the_place_of_the_last_one() -> None:
    """Whether it is larger or smaller; what was above stays."""
    terminal = Terminal()
    await terminal.write("$ streamq\n")
    screen = Screen(terminal.write, color=False, size=lambda: (80, 24))
    for text in ("one\ntwo", "eleven\ntwelve\nthirteen", "1"):
        await screen.show(lambda width, height, text=text: Text(text))  # type: ignore[misc]
        assert terminal.lines == ["$ streamq", *text.split("\n"), ""]


async def test_a_picture_is_no_higher_than_the_terminal() -> None:
    """The line of the cursor is left free."""
    terminal = Terminal()
    screen = Screen(terminal.write, color=False, size=lambda: (80, 4))
    seen = []

    def draw(width: int, height: int) -> Text:
        seen.append((width, height))
        return Text("\n".join("abcdefgh"))

    await screen.show(draw)
    assert (seen, terminal.lines) == ([(80, 3)], ["a", "b", "c", ""])


async def test_lines_that_were_wrapped_are_drawn_over() -> None:
    """A terminal that became narrower shows what was drawn on more lines."""
    assert over_lines(["x" * 20, ""], 10) == 3
