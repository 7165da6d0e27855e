"""Tells how far a continuous query is, from what its epochs left: what `statistics()` and EXPLAIN ANALYZE show."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from streamq.execution.statistics import ContinuousStatistics, OperatorStatistics
from streamq.plan.dataflow import Dataflow, Node
from streamq.streaming.epochs import EpochReport
from streamq.streaming.records import EpochRecord
from streamq.streaming.watermarks import FOREVER_US, Partition

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FOREVER = datetime.max.replace(tzinfo=UTC)


def continuous_statistics(report: EpochReport, dataflow: Dataflow, now_s: float) -> ContinuousStatistics:
    """Give the statistics after an epoch, at a time in seconds since 1970 (UTC)."""
    record = report.record
    kinds = {node.id: kind_of(node) for node in dataflow.nodes}
    query_us = None if record is None else record.watermarks.query
    return ContinuousStatistics(
        epochs=0 if record is None else record.number,
        rows_in=report.rows_in,
        late_rows=report.late_rows,
        watermark=to_datetime(query_us),
        watermarks={} if record is None else relation_watermarks(record),
        idle=frozenset() if record is None else record.watermarks.idle,
        operators=tuple(
            OperatorStatistics(
                node.node, node.rows_in, node.rows_out, node.state_rows, node.state_bytes, node.busy_s, kinds.get(node.node, "")
            )
            for node in report.nodes
        ),
        partition_watermarks={partition: to_datetime(watermark) for partition, watermark in report.partitions.items()},
        held_back_by=held_back_by(report),
        watermark_lag_s=None if query_us in (None, FOREVER_US) else now_s - query_us / 1e6,
        peak_state_bytes=report.peak_state_bytes,
        epoch_s=report.epoch_s,
    )


def held_back_by(report: EpochReport) -> Partition | None:
    """Give the partition whose watermark the query's is; one that has none yet before all others. None at the end."""
    record = report.record
    if record is None:
        return None
    waits = {
        partition: watermark
        for partition, watermark in report.partitions.items()
        if partition not in record.watermarks.idle and record.watermarks.relations.get(partition[0]) != FOREVER_US
    }
    return min(waits, key=lambda partition: (waits[partition] is not None, waits[partition] or 0, partition), default=None)


def kind_of(node: Node) -> str:
    """Name what a node is.

    >>> from streamq.plan.dataflow import Hold
    >>> from streamq.plan.exchanges import Edge, Keep
    >>> import pyarrow as pa
    >>> kind_of(Hold("final", Edge("query", Keep()), None, pa.schema([])))
    'hold'
    """
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", type(node).__name__).lower()


def relation_watermarks(record: EpochRecord) -> Mapping[str, datetime | None]:
    """Give the watermarks of the relations with event time."""
    return {relation: to_datetime(watermark) for relation, watermark in record.watermarks.relations.items()}


def to_datetime(watermark_us: int | None) -> datetime | None:
    """Give a watermark as a time; what is beyond all times, as at the end of a source, is the largest one."""
    if watermark_us is None:
        return None
    try:
        return _EPOCH + timedelta(microseconds=watermark_us)
    except OverflowError:
        return _FOREVER if watermark_us > 0 else datetime.min.replace(tzinfo=UTC)
