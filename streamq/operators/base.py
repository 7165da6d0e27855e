"""What operators take and give: changes of an epoch, and the epoch itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from streamq.plan.dataflow import Node, edges
from streamq.plan.exchanges import Gather

if TYPE_CHECKING:
    from streamq.kernels.evaluate import Evaluator

Weights = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Delta:
    """Rows and how often each is added (> 0) or withdrawn (< 0), never 0; `weights` None is once for every row.

    The same row may occur several times, with either sign: what counts is the sum. Rows that are withdrawn come before rows
    that are added wherever an operator makes both for one key.
    """

    rows: pa.RecordBatch
    weights: Weights | None = None

    @classmethod
    def empty(cls, schema: pa.Schema) -> Delta:
        return cls(pa.RecordBatch.from_arrays([pa.array([], field.type) for field in schema], schema=schema))

    @property
    def num_rows(self) -> int:
        return int(self.rows.num_rows)

    def slice(self, first: int, end: int) -> Delta:
        """Give rows `first` to `end`, without the last, in the memory in which they are."""
        return Delta(self.rows.slice(first, end - first), None if self.weights is None else self.weights[first:end])


@dataclass(frozen=True, slots=True)
class Epoch:
    """One step of a continuous query, as its record says it.

    `horizon_us` (microseconds since 1970, UTC) is the watermark at the end of the epoch less the lateness: no later row
    belongs to a window that ends at or before it; None as long as there is none. `ended` tells that no source gives any more,
    and then every window has closed. `now_us` is the epoch's clock.
    """

    number: int
    now_us: int
    horizon_us: int | None = None
    ended: bool = False


State = Mapping[str, pa.Table]
"""What an operator keeps, as named tables of values, so that rows can be given to other partitions: the tables "inputN" and "inputN.…" have
the hash columns of input N, under the names that they have there, all others those of input 0. (A table of an operator that has
no hashed input has no such columns, and stays together.) What is the same in all partitions is the table `EVERYWHERE`."""
EVERYWHERE = "everywhere"


class Operator(Protocol):
    """One partition's instance of a node. Synchronous; used by one thread at a time."""

    def process(self, inputs: Sequence[Delta], epoch: Epoch) -> Delta:
        """Take the epoch's changes of every input (in the order of the node's edges; maybe none) and give those of the result.

        Called in every epoch, also without changes, since time passes in it.

        Raises:
            DataError: an expression failed on a row; the operator must not be used any more.
        """

    @property
    def state_rows(self) -> int:
        """How many rows or groups are kept."""

    @property
    def state_bytes(self) -> int:
        """How many bytes the state takes, as far as it grows with the data."""

    def snapshot(self) -> State:
        """Give the state as it is after an epoch."""

    def restore(self, state: State) -> None:
        """Take over a state, or a partition's part of several, in a new operator."""


@dataclass(frozen=True, slots=True)
class OperatorContext:
    """What an operator needs to know besides its node.

    `schemas` and `retracts` are those of the nodes that its edges come from, by position; `parameters` are the query's values by name
    (the SQL's `$now` is not among them: operators give it from the epoch). `partition` is the number of the partition it runs in.
    """

    schemas: tuple[pa.Schema, ...]
    retracts: tuple[bool, ...]
    evaluator: Evaluator
    parameters: Mapping[str, object]
    partition: int = 0

    @classmethod
    def of(
        cls, node: Node, nodes: Mapping[str, Node], evaluator: Evaluator, parameters: Mapping[str, object], partition: int
    ) -> OperatorContext:
        """Give the context of `node`, whose inputs are among `nodes` (by id)."""
        inputs = [nodes[edge.node] for edge in edges(node)]
        return cls(tuple(input.schema for input in inputs), tuple(input.retracts for input in inputs), evaluator, parameters, partition)

    def is_idle(self, node: Node) -> bool:
        """Tell that no rows ever reach this instance, since all go to partition 0: what exists without rows exists there alone."""
        return self.partition > 0 and any(isinstance(edge.exchange, Gather) for edge in edges(node))
