"""The DuckDB session that a module's operators share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from streamq.kernels.evaluate import Evaluator
from streamq.kernels.session import Session


@pytest.fixture(scope="module")
def evaluator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Evaluator]:
    """Give an evaluator whose connections are closed after the module."""
    with Session(1 << 28, str(tmp_path_factory.mktemp("duckdb"))) as session, Evaluator(session) as evaluator:
        yield evaluator
