"""What goes over the wire comes out as it was, however it was cut on the way."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator
from datetime import UTC, datetime

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import streamq
from streamq.execution.query import Progress
from streamq.execution.statistics import ContinuousStatistics
from streamq.wire.arrow import ArrowDecoder, ArrowEncoder, NotArrow, query_metadata
from streamq.wire.errors import error_of, error_record
from streamq.wire.parameters import parameters_from_json, parameters_to_json
from streamq.wire.pieces import cut
from streamq.wire.records import from_json, progress_from_json, progress_to_json, to_json

BATCH = pa.record_batch({"n": range(500), "d": pa.array(["x", "y"] * 250).dictionary_encode(), "s": [[str(n)] for n in range(500)]})

START, PLACE = {"streamq.progress": {"epoch": 0}}, {"streamq.progress": {"epoch": 7}}


def stream(*batches: pa.RecordBatch) -> bytes:
    encoder = ArrowEncoder(BATCH.schema, {"id": "q1"})
    return b"".join([encoder.note(START), *(encoder.encode(batch, PLACE) for batch in batches), encoder.end()])


@given(st.lists(st.integers(1, 2_000), min_size=1), st.integers(0, 3))
def test_a_stream_may_be_cut_anywhere(sizes: list[int], count: int) -> None:
    """Batches and their metadata are there as soon as their bytes are, and the end is known."""
    body = stream(*[BATCH] * count)
    decoder, decoded, place = ArrowDecoder(), [], 0
    while place < len(body):
        size = sizes[place % len(sizes)]
        decoded += list(decoder.feed(body[place : place + size]))
        assert not decoder.ended or place + size >= len(body)
        place += size
    assert decoder.ended
    assert decoder.schema is not None
    schema, said = query_metadata(decoder.schema)
    assert (schema, said) == (BATCH.schema, {"id": "q1"})
    assert [item.metadata for item in decoded] == [START, *[PLACE] * count]
    assert all(item.batch.equals(BATCH) for item in decoded[1:])


@given(st.lists(st.binary(max_size=20), max_size=5), st.integers(1, 30))
def test_pieces_are_cut_to_size(pieces: list[bytes], size: int) -> None:
    """Pieces of a size come to the same bytes, and only the last of them is smaller."""
    cuts = list(cut(pieces, size))
    assert b"".join(cuts) == b"".join(pieces)
    assert all(len(piece) == size for piece in cuts[:-1])
    assert all(0 < len(piece) <= size for piece in cuts)


@pytest.mark.parametrize(
    "batch", [BATCH, BATCH.drop_columns(["d"]), BATCH.select([]), BATCH.select(["s"]).replace_schema_metadata({"a": "b"})]
)
def test_a_writer_that_rested_goes_on(batch: pa.RecordBatch) -> None:
    """The bytes are the same as if it had kept all: the schema is there once, and so is each dictionary."""

    def write(rest: bool) -> Iterator[bytes]:
        encoder = ArrowEncoder(batch.schema, {"id": "q1"})
        for number in range(3):
            yield encoder.encode(batch, {"place": number})
            if rest:
                encoder.rest()
        yield encoder.end()

    assert list(write(rest=True)) == list(write(rest=False))


def test_columns_are_not_copied() -> None:
    """Among the pieces of a batch are the buffers of its columns."""
    batch = pa.record_batch({"n": range(10_000), "s": [str(number) for number in range(10_000)]})
    pieces = ArrowEncoder(batch.schema).pieces(batch)
    assert b"".join(pieces) == ArrowEncoder(batch.schema).encode(batch)
    given_out = {piece.address for piece in pieces if isinstance(piece, pa.Buffer)}
    assert given_out >= {buffer.address for column in batch.columns for buffer in column.buffers() if buffer is not None}


def test_what_is_said_again() -> None:
    """Batches of which the same is said share what was read of it; then something else may be said, and the same again."""
    encoder, decoder = ArrowEncoder(BATCH.schema), ArrowDecoder()
    one, other = START, PLACE
    batches = [encoder.encode(BATCH, said) for said in (one, one, None, one, other, other, one)]
    decoded = [each.metadata for data in batches for each in decoder.feed(data)]
    assert decoded == [one, one, {}, one, other, other, one]
    assert decoded[0] is decoded[1] is decoded[3] is not decoded[6]
    assert decoded[4] is decoded[5]


@pytest.mark.parametrize(
    ("said", "known"),
    [
        ({"origin": "sensor 7", b"\xff": b"\xff"}, {}),
        ({"deep": "[" * 100_000}, {}),
        ({"streamq.error": '{"message": "no"}', "x": ""}, {"streamq.error": {"message": "no"}}),
    ],
)
def test_what_others_say_of_a_batch(said: dict[str | bytes, str | bytes], known: dict[str, object]) -> None:
    """It may be anything; what is streamq's own is read beside it."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, BATCH.schema) as writer:
        writer.write_batch(BATCH, custom_metadata=said)
    (decoded,) = ArrowDecoder().feed(sink.getvalue().to_pybytes())
    assert decoded.metadata == known


@pytest.mark.parametrize("said", ["[1]", "1", "{", "[" * 100_000, '"\ud800'])
def test_what_is_not_said_as_streamq_does(said: str) -> None:
    """A key of streamq's own has an object, whoever sends it."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, BATCH.schema) as writer:
        writer.write_batch(BATCH, custom_metadata={"streamq.error": said.encode(errors="surrogatepass")})
    with pytest.raises(NotArrow):
        list(ArrowDecoder().feed(sink.getvalue().to_pybytes()))


def test_what_follows_a_stream() -> None:
    """It is not read, and its size is known."""
    body = stream(BATCH)
    for more in (b"", b"x", body):
        decoder = ArrowDecoder()
        assert len(list(decoder.feed(body + more))) == 2
        assert list(decoder.feed(b"yz")) == []
        assert (decoder.ended, decoder.held_bytes) == (True, len(more) + 2)


def test_a_body_that_was_cut_has_no_end() -> None:
    """Whatever is missing of it."""
    body = stream(BATCH)
    for length in (0, 7, len(body) // 2, len(body) - 8, len(body) - 1):
        decoder = ArrowDecoder()
        list(decoder.feed(body[:length]))
        assert not decoder.ended


@given(st.binary(min_size=8, max_size=200), st.integers(0, 3_000))
def test_other_bytes_are_refused(noise: bytes, place: int) -> None:
    """They are an error, or wait for more: never a crash."""
    body = stream(BATCH)
    place = min(place, len(body) - len(noise))
    decoder = ArrowDecoder(1 << 20)
    try:
        list(decoder.feed(body[:place] + noise + body[place + len(noise) :]))
    except NotArrow:
        return


def test_a_message_larger_than_allowed() -> None:
    """It is refused before it has come."""
    with pytest.raises(NotArrow, match="larger"):
        list(ArrowDecoder(1_000).feed(stream(BATCH)[:2_000]))


@pytest.mark.parametrize(
    "error",
    [
        streamq.BindError("no column x", sql="SELECT x", line=1, column=8, hint="y"),
        streamq.ShardError("it failed", shard="rows 1 to 5"),
        streamq.WorkerCrashed("gone"),
        streamq.ResourceLimit("too much"),
        ValueError("batch_rows"),
    ],
)
def test_errors(error: Exception) -> None:
    """Class, text and what they carry are the same."""
    copy = error_of(error_record(error))
    assert (type(copy), str(copy), vars(copy)) == (type(error), str(error), vars(error))


def test_a_kind_of_value_error() -> None:
    """It is a ValueError there too."""
    error = UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogates not allowed")
    copy = error_of(error_record(error))
    assert (type(copy), str(copy)) == (ValueError, str(error))


def test_statistics_and_progress() -> None:
    """Times, sets and keys that are no text are the same."""
    at = datetime(2026, 5, 1, tzinfo=UTC)
    statistics = ContinuousStatistics(3, {"t": 5}, 0, at, {"t": None}, frozenset({("t", 1)}), (), {("t", 0): at}, ("t", 1), float("inf"), 9)
    assert from_json(ContinuousStatistics, to_json(statistics)) == statistics
    progress = Progress(4, True, {"t": at, "u": None}, {"t": 5})
    assert progress_from_json(progress_to_json(progress)) == progress


@pytest.mark.parametrize(
    "params",
    [
        None,
        [],
        {},
        [1, "x", None, 1.5, True],
        {"a": [1, {"b": 2}]},
        [b"\x00", datetime(2026, 5, 1)],
        {"d": float("inf")},
        {"m": {"n": [1]}},
    ],
)
def test_parameters(params: object) -> None:
    """Values are the same."""
    assert parameters_from_json(parameters_to_json(params), 1_000) == params  # type: ignore[arg-type]


def test_parameters_that_nobody_should_send() -> None:
    """What stands for very much in few bytes, points outside of it, or is not one row, is refused."""
    nothing = pa.RecordBatch.from_struct_array(pa.array([{}] * 2, pa.struct([])))
    many = pa.ListArray.from_arrays(pa.array([0, 1 << 30], pa.int32()), pa.nulls(1 << 30))
    astray = pa.DictionaryArray.from_arrays(pa.array([1 << 20]), pa.array(["x"]), safe=False)
    late = pa.array([1 << 62], pa.timestamp("s"))
    for batch, message in [
        (nothing, "another number of rows"),
        (pa.record_batch({"0": pa.nulls(1 << 30)}), "another number of rows"),
        (pa.record_batch({"0": many}), "come to"),
        (pa.record_batch({"0": astray}), "params_arrow"),
        (pa.record_batch({"0": late}), "params_arrow"),
    ]:
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, batch.schema) as writer:
            writer.write_batch(batch)
        with pytest.raises(ValueError, match=message):
            parameters_from_json({"params_arrow": b64encode(sink.getvalue()).decode()}, 1 << 20)


def test_parameters_in_very_many_batches() -> None:
    """No more of them are read than tell that they are too many."""
    sink = pa.BufferOutputStream()
    nothing = pa.record_batch({})
    with pa.ipc.new_stream(sink, nothing.schema) as writer:
        for _ in range(2):
            writer.write_batch(nothing)
    request = {"params_arrow": b64encode(sink.getvalue().to_pybytes()[:-8] + b"no Arrow").decode()}
    with pytest.raises(ValueError, match="another number of rows"):
        parameters_from_json(request, 1 << 20)


def test_a_parameter_without_a_type() -> None:
    """It is refused here, also within another."""
    for value in (object(), [[1], [object()]], {"a": object()}):
        with pytest.raises(streamq.BindError, match="Python type object is no SQL value"):
            parameters_to_json([value])
    with pytest.raises(streamq.BindError, match="no Arrow type"):
        parameters_to_json([2**200])
