"""Fixtures: Prometheus."""

from __future__ import annotations

import pytest

from tests.grafana.prometheus import Programs, Unavailable, find_programs


@pytest.fixture(scope="session")
def programs(pytestconfig: pytest.Config) -> Programs:
    """The programs of Prometheus."""
    cache = getattr(pytestconfig, "cache", None)
    if cache is None:
        pytest.skip("without pytest's cache there is nowhere to unpack prometheus")
    try:
        return find_programs(cache.mkdir("prometheus"))
    except Unavailable as reason:
        pytest.skip(str(reason))
