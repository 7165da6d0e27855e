"""The k-way merge of sorted runs, against sorting everything at once."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from streamq.flow.merge import merge_runs

keys = st.lists(st.integers(0, 6), max_size=40)


def cut_run(run: int, values: list[int], width: int, kind: pa.DataType) -> Iterator[pa.RecordBatch]:
    ordered = sorted(values)
    rows = [(run, place, key) for place, key in enumerate(ordered)]
    for start in range(0, len(rows), width):
        part = rows[start : start + width]
        key_values = [bytes([key]) if kind == pa.binary() else key for _, _, key in part]
        yield pa.record_batch({"run": [r for r, _, _ in part], "place": [p for _, p, _ in part], "key": pa.array(key_values, kind)})


@given(
    runs=st.lists(st.tuples(keys, st.integers(1, 7)), max_size=8),
    batch_rows=st.integers(1, 20),
    kind=st.sampled_from([pa.uint64(), pa.binary()]),
)
def test_merge_equals_a_stable_sort(runs: list[tuple[list[int], int]], batch_rows: int, kind: pa.DataType) -> None:
    """Merged runs are the stable sort of all their rows, cut into batches of at most `batch_rows`."""
    batches = list(merge_runs([cut_run(number, values, width, kind) for number, (values, width) in enumerate(runs)], batch_rows))
    got = [(row["run"], row["place"]) for batch in batches for row in batch.to_pylist()]
    every = [(key, run, place) for run, (values, _) in enumerate(runs) for place, key in enumerate(sorted(values))]
    assert got == [(run, place) for _, run, place in sorted(every)]
    assert all(0 < batch.num_rows <= batch_rows for batch in batches)
    assert all(batch.schema.names == ["run", "place"] for batch in batches)


def test_no_runs_give_no_batches() -> None:
    """Nothing to merge is an empty answer, not a hang."""
    assert list(merge_runs([], 10)) == []
    assert list(merge_runs([iter([])], 10)) == []
