"""Where output goes: files that are complete or absent, and descriptors."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from streamq.cli.sink import FdSink, open_sink


def test_a_file_appears_when_it_is_complete(tmp_path: Path) -> None:
    """Until the block ends, nothing is under its name; afterwards all is, and nothing else is left."""
    path = tmp_path / "rows.csv"
    with open_sink(str(path)) as sink:
        sink.write(b"rows")
        assert not path.exists()
    assert path.read_bytes() == b"rows"
    assert os.listdir(tmp_path) == ["rows.csv"]


def test_a_failure_leaves_the_old_file(tmp_path: Path) -> None:
    """An incomplete answer replaces nothing."""
    path = tmp_path / "rows.csv"
    path.write_bytes(b"old")

    def fail() -> None:
        with open_sink(str(path)) as sink:
            sink.write(b"new")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["rows.csv"]


def test_devices_are_written_as_they_are() -> None:
    """Nothing takes the place of what is no file."""
    with open_sink(os.devnull) as sink:
        sink.write(b"rows")
    assert not Path(os.devnull).is_file()


def test_a_missing_folder_is_an_error(tmp_path: Path) -> None:
    """It is found before any row is."""
    with pytest.raises(FileNotFoundError), open_sink(str(tmp_path / "none" / "rows.csv")):
        pass


def test_a_descriptor_gets_everything() -> None:
    """However little a pipe takes at once."""
    reading, writing = os.pipe()
    data = b"x" * 1_000_000

    def write() -> None:
        FdSink(writing).write(data)
        os.close(writing)

    writer = threading.Thread(target=write)
    writer.start()
    with open(reading, "rb") as file:
        assert file.read() == data
    writer.join()


def test_a_pipe_without_reader_is_an_error() -> None:
    """The writer learns that nobody reads."""
    reading, writing = os.pipe()
    os.close(reading)
    with pytest.raises(BrokenPipeError):
        FdSink(writing).write(b"x")
    os.close(writing)
