"""Files by their format: a path, glob or list becomes the snapshot that reads them."""

from __future__ import annotations

import os

from streamq.connectors.ipc import MAGIC, ipc_snapshot
from streamq.connectors.parquet import parquet_snapshot
from streamq.connectors.paths import PinnedFile, find_files
from streamq.connectors.text import text_snapshot
from streamq.errors import SourceError
from streamq.plan.relations import RelationSnapshot

_FORMATS = {
    "parquet": (".parquet", ".pq", ".parq"),
    "arrow": (".arrow", ".arrows", ".feather", ".ipc"),
    "csv": (".csv", ".tsv"),
    "json": (".json", ".ndjson", ".jsonl"),
}
_COMPRESSED = (".gz", ".zst")


def file_snapshot(relation: str, spec: object) -> RelationSnapshot:
    """Make a snapshot of the files that a path, a glob or a list of these means, pinned as they are now.

    Raises:
        SourceError: nothing matches, formats are mixed or unknown, a file is unreadable, or columns differ between files.
    """
    files = find_files(relation, spec)
    formats = {_format(relation, file): file for file in reversed(files)}
    if len(formats) > 1:
        examples = ", ".join(f"{file.path} ({name})" for name, file in formats.items())
        raise SourceError(f"{relation}: the files have several formats: {examples}; register them under different names")
    match next(iter(formats)):
        case "parquet":
            return parquet_snapshot(relation, files)
        case "arrow":
            return ipc_snapshot(relation, files)
        case "csv":
            return text_snapshot(relation, files, "csv")
        case _:
            return text_snapshot(relation, files, "json")


def _format(relation: str, file: PinnedFile) -> str:
    """Tell a file's format by its name, else by its first bytes."""
    base, suffix = os.path.splitext(file.path.lower())
    compressed = suffix in _COMPRESSED
    if compressed:
        suffix = os.path.splitext(base)[1]
    for name, suffixes in _FORMATS.items():
        if suffix in suffixes and (not compressed or name in ("csv", "json")):
            return name
    return _format_by_content(relation, file)


def _format_by_content(relation: str, file: PinnedFile) -> str:
    with open(file.path, "rb") as opened:
        start = opened.read(len(MAGIC))
    if start.startswith(b"PAR1"):
        return "parquet"
    if start == MAGIC:
        return "arrow"
    suffixes = ", ".join(suffix for known in _FORMATS.values() for suffix in known)
    raise SourceError(f"{relation}: the format of {file.path} is unknown; known are {suffixes} (CSV and JSON also with .gz or .zst)")
