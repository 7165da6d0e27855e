"""Snapshots of continuous queries as files, from which a query goes on in another run, in any number of partitions.

A snapshot is a directory: `manifest.json`, and an Arrow IPC file for each table that an instance of an operator keeps, with keys and rows
as values. It is written under another name first, so that what has the name is whole.

What a table or a view held is in the snapshot too, as far as the query had seen it, because nothing keeps its past: the next run begins
with what is different by then. Rows that were written in between come like those that are there when a query begins: without an order
among several relations, tables first.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from streamq.errors import StorageError
from streamq.kernels.routing import ROUTING_VERSION
from streamq.operators.base import Delta, State
from streamq.plan.dataflow import WEIGHT
from streamq.storage.feeds import Bookmark, Position
from streamq.streaming.instances import NodeStatistics
from streamq.streaming.records import EpochRecord
from streamq.streaming.saved import SavedQuery
from streamq.streaming.watermarks import Seen, TrackerState, Watermarks

FORMAT_VERSION = 1
MANIFEST = "manifest.json"
Json = Mapping[str, Any]


def write_snapshot(saved: SavedQuery, directory: str | os.PathLike[str]) -> None:
    """Write a snapshot as a new directory.

    Raises:
        StorageError: it cannot be written, or there is something of that name.
    """
    path = Path(directory)
    with _translated(path):
        if path.exists():
            raise StorageError(f"there is something at {path} already")
        unfinished = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
        try:
            manifest = _Writer(unfinished).write(saved)
            _write_whole(unfinished / MANIFEST, json.dumps(manifest, indent=1).encode())
            os.rename(unfinished, path)
        except BaseException:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise
        _sync(path.parent)


def read_snapshot(directory: str | os.PathLike[str]) -> SavedQuery:
    """Read a snapshot.

    Raises:
        StorageError: there is none, it is damaged, or of another version.
    """
    path = Path(directory)
    with _translated(path):
        manifest = json.loads((path / MANIFEST).read_bytes())
        for what, known in (("format", FORMAT_VERSION), ("routing", ROUTING_VERSION)):
            if manifest.get(what) != known:
                raise StorageError(f"the snapshot {path} has version {manifest.get(what)} of the {what}, this is version {known}")
        return _Reader(path).read(manifest)


class _Writer:
    """Writes the files of a snapshot, and says in JSON what is in which."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._files = 0

    def write(self, saved: SavedQuery) -> Json:
        return {
            "format": FORMAT_VERSION,
            "routing": ROUTING_VERSION,
            "plan": dict(saved.plan),
            "epoch": None if saved.record is None else _record(saved.record),
            "ended": saved.ended,
            "late_rows": saved.late_rows,
            "feeds": {name: self._bookmark(name, bookmark) for name, bookmark in saved.bookmarks.items()},
            "tracker": _tracker(saved.tracker),
            "waiting": None if saved.waiting is None else self._changes(saved.waiting),
            "emitted": saved.emitted,
            "statistics": [asdict(node) for node in saved.nodes],
            "nodes": {node: [self._state(f"{node} {n}", state) for n, state in enumerate(states)] for node, states in saved.states.items()},
        }

    def _state(self, what: str, state: State) -> Json:
        return {name: self._file(f"{what} {name}", table) for name, table in state.items()}

    def _bookmark(self, name: str, bookmark: Bookmark) -> Json:
        seen = None if bookmark.seen is None else self._file(f"seen of {name}", bookmark.seen)
        return {"offsets": list(bookmark.offsets.items()), "latest": list(bookmark.latest.items()), "seen": seen}

    def _changes(self, delta: Delta) -> str:
        table = pa.Table.from_batches([delta.rows])
        return self._file("waiting", table if delta.weights is None else table.append_column(WEIGHT, pa.array(delta.weights)))

    def _file(self, what: str, table: pa.Table) -> str:
        """Write a table. Its file is named by a number and, for people, by what it is."""
        self._files += 1
        readable = "".join(letter if letter.isalnum() else "-" for letter in what)[:80]
        name = f"{self._files:04}-{readable}.arrow"
        with pa.OSFile(str(self._directory / name), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
            writer.write_table(table)
        _sync(self._directory / name)
        return name


class _Reader:
    """Makes of the JSON and the files what they were written from."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def read(self, manifest: Json) -> SavedQuery:
        waiting = manifest["waiting"]
        return SavedQuery(
            plan=manifest["plan"],
            record=None if manifest["epoch"] is None else _record_of(manifest["epoch"]),
            ended=manifest["ended"],
            bookmarks={name: self._bookmark(told) for name, told in manifest["feeds"].items()},
            tracker=_tracker_of(manifest["tracker"]),
            late_rows=manifest["late_rows"],
            waiting=None if waiting is None else self._changes(waiting),
            emitted=manifest["emitted"],
            nodes=tuple(NodeStatistics(**told) for told in manifest["statistics"]),
            states={
                node: tuple({name: self._table(file) for name, file in state.items()} for state in states)
                for node, states in manifest["nodes"].items()
            },
        )

    def _bookmark(self, told: Json) -> Bookmark:
        seen = None if told["seen"] is None else self._table(told["seen"])
        return Bookmark(dict(told["offsets"]), dict(told["latest"]), seen)

    def _changes(self, name: str) -> Delta:
        table = self._table(name).combine_chunks()
        weighted = WEIGHT in table.column_names
        rows = table.drop_columns([WEIGHT]) if weighted else table
        weights = np.asarray(table.column(WEIGHT)) if weighted else None
        return Delta(pa.concat_batches(rows.to_batches()) if rows.num_rows else Delta.empty(rows.schema).rows, weights)

    def _table(self, name: str) -> pa.Table:
        with pa.OSFile(str(self._directory / name), "rb") as file:
            return pa.ipc.open_file(file).read_all()


# As JSON, in which keys are strings: what has others is a list of pairs.


def _record(record: EpochRecord) -> Json:
    return {
        "number": record.number,
        "now_us": record.now_us,
        "positions": {name: list(position.offsets.items()) for name, position in record.positions.items()},
        "watermarks": _watermarks(record.watermarks),
        "ended": record.ended,
    }


def _record_of(told: Json) -> EpochRecord:
    positions = {name: Position(dict(offsets)) for name, offsets in told["positions"].items()}
    return EpochRecord(told["number"], told["now_us"], positions, _watermarks_of(told["watermarks"]), told["ended"])


def _watermarks(watermarks: Watermarks) -> Json:
    return {"query": watermarks.query, "relations": dict(watermarks.relations), "idle": sorted(watermarks.idle)}


def _watermarks_of(told: Json) -> Watermarks:
    return Watermarks(told["query"], told["relations"], frozenset((name, number) for name, number in told["idle"]))


def _tracker(state: TrackerState) -> Json:
    return {
        "query": state.query,
        "relations": dict(state.relations),
        "seen": [[*partition, seen.offset, seen.ago_s] for partition, seen in state.seen.items()],
    }


def _tracker_of(told: Json) -> TrackerState:
    return TrackerState(
        told["query"], told["relations"], {(name, number): Seen(offset, ago_s) for name, number, offset, ago_s in told["seen"]}
    )


# Files


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise StorageError(f"{path} is no snapshot: {Path(error.filename).name if error.filename else 'a file'} is missing") from error
    except (OSError, pa.ArrowException, ValueError, KeyError, TypeError) as error:
        raise StorageError(f"the snapshot {path}: {type(error).__name__}: {error}") from error


def _write_whole(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    _sync(path)


def _sync(path: Path) -> None:
    """Have the disk keep a file's, or a directory's, content."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
