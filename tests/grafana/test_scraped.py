"""A real Prometheus scrapes a real service under load: every panel shows something, every rule can be computed."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import anyio
import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

pytest.importorskip("grafana_foundation_sdk")

import streamq
from grafana.alerts import ALERTS
from grafana.build import DASHBOARDS, GENERATED
from streamq.metrics.definitions import METRICS
from tests.grafana.prometheus import PATIENCE_S, Programs, ask, scraping

BETWEEN_LOOKS_S = 0.1
"""Half the time between two scrapes."""
FILLED_IN = {"$__rate_interval": "5s", "$instance": ".*"}
"""What Grafana puts in place of its variables."""
PANELS = {
    f"{board.title}, {panel.title}, {line.legend}": line.expression.text
    for board in DASHBOARDS
    for panel in board.panels()
    for line in panel.lines
}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A service with files of many row groups; gives its URL."""
    path = tmp_path_factory.mktemp("files") / "numbers.parquet"
    pq.write_table(pa.table({"n": pa.arange(0, 40_000)}), path, row_group_size=5_000)
    with _served("-r", str(path)) as url:
        yield url


@contextmanager
def _served(*arguments: str) -> Iterator[str]:
    command = [sys.executable, "-m", "streamq", "serve", "--port", "0", "--workers", "1", "--log-level", "error", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().removeprefix("streamq serves ").strip()
        finally:
            process.terminate()


@pytest.fixture(scope="module")
def prometheus(programs: Programs, service: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a Prometheus that scrapes the service and has the rules."""
    rules = GENERATED / "prometheus" / "alerts.yaml"
    with scraping(programs, service.removeprefix("http://"), rules, tmp_path_factory.mktemp("prometheus")) as url:
        yield url


def test_under_load_every_panel_shows_something(service: str, prometheus: str) -> None:
    """Each expression has a number in the end; until then it is asked for again and again. Every rule has been computed by then."""
    missing = anyio.run(_until_all_show, service, prometheus)
    assert not missing


async def _until_all_show(service: str, prometheus: str) -> dict[str, str]:
    missing = {name: _filled_in(text) for name, text in PANELS.items()}
    async with streamq.connect(service) as db, _load(db), httpx.AsyncClient(base_url=prometheus) as server:
        with anyio.move_on_after(PATIENCE_S):
            while missing or not await _all_rules_computed(server):
                missing = {name: text for name, text in missing.items() if not await _shows(server, text)}
                await anyio.sleep(BETWEEN_LOOKS_S)
            await _check_rules(server)
    return missing


def _filled_in(text: str) -> str:
    for variable, value in FILLED_IN.items():
        text = text.replace(variable, value)
    return text


async def _shows(server: httpx.AsyncClient, expression: str) -> bool:
    found = await ask(server, "query", query=expression)
    return any(math.isfinite(float(series["value"][1])) for series in found["result"])


async def _rules(server: httpx.AsyncClient) -> list[dict[str, Any]]:
    return [rule for group in (await ask(server, "rules"))["groups"] for rule in group["rules"]]


async def _all_rules_computed(server: httpx.AsyncClient) -> bool:
    return all(rule["health"] != "unknown" for rule in await _rules(server))


async def _check_rules(server: httpx.AsyncClient) -> None:
    rules = await _rules(server)
    assert {rule["name"]: rule["health"] for rule in rules} == {alert.name: "ok" for alert in ALERTS}
    for metric in METRICS:
        (described,) = (await ask(server, "metadata", metric=metric.name))[metric.name]
        assert (described["type"], described["help"]) == (metric.kind, metric.text)


@asynccontextmanager
async def _load(db: streamq.Database) -> AsyncIterator[None]:
    """Keep the service busy with queries of every kind, of which some fail or are left."""
    await db.execute("CREATE SOURCE clicks (ts TIMESTAMP, url VARCHAR, WATERMARK FOR ts AS ts - INTERVAL '1' SECOND)")
    async with anyio.create_task_group() as tasks:
        for work in (_snapshots, _failures, _inserts, _windows):
            tasks.start_soon(_again_and_again, work, db)
        yield
        tasks.cancel_scope.cancel()


async def _again_and_again(work: Callable[[streamq.Database], Awaitable[None]], db: streamq.Database) -> None:
    while True:
        await work(db)
        # Something of each kind comes between two scrapes; more would show no more.
        await anyio.sleep(BETWEEN_LOOKS_S)


async def _snapshots(db: streamq.Database) -> None:
    await db.fetch("SELECT n % 7 AS g, count(*) AS c FROM numbers WHERE n < 12000 GROUP BY g WITH (executor = 'process')")
    await db.fetch("SELECT n, row_number() OVER (ORDER BY n DESC) AS place FROM numbers")


async def _failures(db: streamq.Database) -> None:
    with pytest.raises(streamq.DataError):
        await db.fetch("SELECT 1 // (n - n) AS never FROM numbers")
    async with db.query("SELECT a.n FROM numbers a, numbers b") as stream:
        await anext(stream)


async def _inserts(db: streamq.Database) -> None:
    now = datetime.now(UTC).replace(tzinfo=None)
    await db.insert("clicks", [{"ts": now, "url": "/"}, {"ts": now - timedelta(hours=1), "url": "/late"}])


async def _windows(db: streamq.Database) -> None:
    sql = "SELECT window_start, url, count(*) AS n FROM TUMBLE(clicks, ts, INTERVAL '1' SECOND) GROUP BY window_start, url EMIT CHANGES"
    async with db.query(sql) as stream:
        async for _ in stream:
            pass


def test_promtool_finds_no_fault(programs: Programs, service: str) -> None:
    """With the names and texts of the metrics, and with the files for Prometheus."""
    _promtool(programs, "check", "config", str(GENERATED / "prometheus" / "prometheus.yaml"))
    _promtool(programs, "check", "metrics", text=httpx.get(f"{service}/metrics").text)


def _promtool(programs: Programs, *arguments: str, text: str = "") -> None:
    done = subprocess.run([programs.promtool, *arguments], input=text, capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode == 0, done.stdout + done.stderr
