"""Measure a service on this machine: throughput, added latency, and what a thousand followers cost.

A `streamq serve` process is used through `streamq.connect()`. How fast a large result comes is compared with a bare transfer of as many
bytes, in pieces of the same size, by the same libraries (hypercorn and Starlette there, httpx here): they take turns, and the medians of
their times are compared. Small queries take turns with an embedded database. Followers then read a continuous query, the half of them
a materialized view, while others ask for snapshots: a wrong answer ends the program. At last they wait, and nothing happens.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import anyio
import httpx
import pyarrow as pa

import streamq
from benchmarks.data import NUMERIC, ROWS, measured_file
from benchmarks.measure import megabytes, milliseconds, percentile, ratio, show, tell, time_await
from benchmarks.served import Peak, Service, bare_server, streamq_serve
from streamq.cli.serving import PIECE_BYTES

BACKENDS = ("asyncio", "trio")
EXECUTORS = ("process", "thread")
FOLLOWERS = 1_000
QUERIES = 200
SMALL_QUERIES = 200
SMALL_ROWS = 1_000
KEYS = 100
BATCHES = 10
BATCH_ROWS = 100
IDLE_S = 10.0
AT_ONCE = 32
"""So many followers start at a time."""
MEMORY = 256 << 20
SLACK = 256 << 20
SMALL = "SELECT name FROM small WHERE id = ?"
PATIENCE_S = 300.0


# A large result


async def compare_transfers(path: Path, columns: str, runs: int, backend: str, executor: str) -> list[str]:
    """Give a line of the table: the rates of the bare transfer and of the service, and their ratio."""
    sql = f"SELECT {columns} FROM measured"
    tell(f"{backend}, {executor}: {sql}")
    arguments = ("-r", f"measured={path}", "--backend", backend, "--executor", executor)
    ours: list[float] = []
    bare: list[float] = []
    with streamq_serve(*arguments, memory_bytes=2 << 30) as service, bare_server(backend) as peer:
        async with streamq.connect(service.url) as db, httpx.AsyncClient(base_url=peer.url, timeout=PATIENCE_S) as client:
            rows, size, piece = await body_of(service, sql)
            for _ in range(runs):
                bare.append(await time_await(lambda: transfer(client, size, piece)))
                ours.append(await time_await(lambda: read_all(db, sql, rows)))
    rates = [f"{megabytes(size / median(times))}/s" for times in (bare, ours)]
    what = "all columns" if columns == "*" else "four numbers"
    return [what, f"{backend}, {executor}", megabytes(size), *rates, ratio(bare, ours)]


async def body_of(service: Service, sql: str) -> tuple[int, int, int]:
    """Give the rows of a result, the bytes of its body, and of a typical piece: a batch, as far as it is sent at once."""
    headers = {"accept": "application/vnd.apache.arrow.stream"}
    async with httpx.AsyncClient(base_url=service.url, timeout=PATIENCE_S) as client:
        size = len((await client.post("/v1/query", json={"sql": sql}, headers=headers)).content)
    async with streamq.connect(service.url) as db, db.query(sql) as stream:
        rows = [batch.num_rows async for batch in stream]
    return sum(rows), size, min(size // len(rows), PIECE_BYTES)


async def transfer(client: httpx.AsyncClient, size: int, piece: int) -> None:
    async with client.stream("GET", "/", params={"bytes": size, "piece": piece}) as response:
        got = 0
        async for data in response.aiter_raw():
            got += len(data)
    if got != size:
        raise SystemExit(f"the bare transfer gave {got} of {size} bytes")


async def read_all(db: streamq.Database, sql: str, rows: int) -> None:
    async with db.query(sql) as stream:
        got = 0
        async for batch in stream:
            got += batch.num_rows
    if got != rows:
        raise SystemExit(f"{sql} gave {got} of {rows} rows")


# Small queries


async def added_latency(queries: int) -> list[list[str]]:
    """Give the lines of the table: small queries embedded, remote, and what is between them."""
    tell(f"{queries} small queries, embedded and remote in turn")
    small = pa.table({"id": range(SMALL_ROWS), "name": [f"name {number}" for number in range(SMALL_ROWS)]})
    embedded: list[float] = []
    remote: list[float] = []
    with streamq_serve(memory_bytes=2 << 30) as service:
        async with streamq.connect() as near, streamq.connect(service.url) as far:
            for db in (near, far):
                await db.register("small", small)
                await db.fetch(SMALL, [0])
            for number in range(queries):
                for db, times in ((near, embedded), (far, remote)):
                    times.append(await time_await(lambda db=db, number=number: db.fetch(SMALL, [number])))  # type: ignore[misc]
    figures = ((f"p{percent}", percentile(embedded, percent), percentile(remote, percent)) for percent in (50, 99))
    return [[name, milliseconds(here), milliseconds(there), milliseconds(there - here)] for name, here, there in figures]


# Followers


class Crowd:
    """Followers of a service, each of which has its own connection and checks what it gets."""

    def __init__(self, db: streamq.Database, followers: int) -> None:
        self._db = db
        self._followers = followers
        self._limiter = anyio.CapacityLimiter(AT_ONCE)
        self._following = 0
        self._seen = [0] * followers
        self._changed = anyio.Event()

    async def follow(self, number: int) -> None:
        """Read for ever: a source's rows, or how many a view counts for each key."""
        view = number % 2 == 1
        sql = "SELECT k, n FROM counts EMIT CHANGES" if view else "SELECT k, t FROM pushed EMIT CHANGES"
        stream = self._db.query(sql)
        async with self._limiter:
            await stream.start()
        async with stream:
            self._following += 1
            self._tell()
            counts: dict[int, int] = {}
            async for batch in stream:
                if view:
                    counts.update(zip(batch.column("k").to_pylist(), batch.column("n").to_pylist(), strict=True))
                    self._seen[number] = sum(counts.values())
                else:
                    self._seen[number] += batch.num_rows
                self._tell()

    async def all_follow(self) -> None:
        """Wait until each has begun."""
        while self._following < self._followers:
            await self._changed.wait()

    async def all_have(self, rows: int) -> None:
        """Wait until each has seen so many rows. More of them end the program."""
        while min(self._seen) < rows:
            await self._changed.wait()
        if max(self._seen) != rows:
            raise SystemExit(f"a follower saw {max(self._seen)} of {rows} rows")

    def _tell(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()


async def crowded(service: Service, followers: int, queries: int, idle_s: float) -> list[list[str]]:
    """Give the lines of the table: followers for whom nothing comes, then the same beside queries."""
    async with streamq.connect(service.url) as db:
        await db.execute("CREATE SOURCE pushed (k BIGINT, t BIGINT)")
        await db.execute("CREATE MATERIALIZED VIEW counts AS SELECT k, count(*) AS n FROM pushed GROUP BY k")
        await db.insert("pushed", pushed(0))
        # What is only there once is not a follower's: kernels, pools, code.
        await warm_up(db)
        rows = BATCH_ROWS
        before, descriptors = service.resident_bytes(), service.descriptors()
        crowd = Crowd(db, followers)
        peak = Peak(service)
        async with anyio.create_task_group() as following, anyio.create_task_group() as watching:
            watching.start_soon(peak.watch)
            tell(f"{followers:,} followers start")
            cpu, started = service.cpu_s(), time.perf_counter()
            for number in range(followers):
                following.start_soon(crowd.follow, number)
            with anyio.fail_after(PATIENCE_S):
                await crowd.all_follow()
                await crowd.all_have(rows)
            starting_s, starting_cpu = time.perf_counter() - started, service.cpu_s() - cpu
            each = (service.resident_bytes() - before) / followers
            opened, threads = service.descriptors() - descriptors, service.threads()
            tell(f"nothing happens for {idle_s:g} s")
            cpu = service.cpu_s()
            await anyio.sleep(idle_s)
            share = (service.cpu_s() - cpu) / idle_s
            tell(f"{queries} queries at once, and {BATCHES} inserts of {BATCH_ROWS} rows that each follower gets")
            started = time.perf_counter()
            with anyio.fail_after(PATIENCE_S):
                async with anyio.create_task_group() as asking:
                    for number in range(queries):
                        asking.start_soon(ask, db, number)
                    for number in range(1, BATCHES + 1):
                        await db.insert("pushed", pushed(number))
                        rows += BATCH_ROWS
                await crowd.all_have(rows)
            busy_s = time.perf_counter() - started
            watching.cancel_scope.cancel()
            following.cancel_scope.cancel()
    return [
        ["start, all together", f"{starting_s:.1f} s", ""],
        ["CPU to start, each", milliseconds(starting_cpu / followers), ""],
        ["memory, each", f"{each / 1_000:.0f} kB", "≤ 50 kB"],
        ["descriptors, each", f"{opened / followers:.1f}", ""],
        ["threads of all processes", str(threads), ""],
        ["CPU of all while idle", f"{share:.1%}", "≤ 2 %"],
        [f"{queries} queries and {BATCHES} inserts, every row seen by all", f"{busy_s:.1f} s", "no error"],
        ["memory of all processes before", megabytes(before), ""],
        ["the most", megabytes(peak.bytes), f"≤ {megabytes(MEMORY + SLACK)}"],
    ]


async def warm_up(db: streamq.Database) -> None:
    """Have a few of everything, and let them go."""
    crowd = Crowd(db, 4)
    async with anyio.create_task_group() as tasks:
        for number in range(4):
            tasks.start_soon(crowd.follow, number)
        await crowd.all_have(BATCH_ROWS)
        await ask(db, 0)
        tasks.cancel_scope.cancel()


async def ask(db: streamq.Database, number: int) -> None:
    first, end = number * 1_000, number * 1_000 + 50_000
    answer = await db.fetch(f"SELECT count(*) AS c, sum(id) AS s FROM measured WHERE id >= {first} AND id < {end}")
    if answer.to_pylist() != [{"c": end - first, "s": (first + end - 1) * (end - first) // 2}]:
        raise SystemExit(f"query {number} got {answer.to_pylist()}")


def pushed(number: int) -> pa.RecordBatch:
    first = number * BATCH_ROWS
    return pa.record_batch({"k": [row % KEYS for row in range(first, first + BATCH_ROWS)], "t": range(first, first + BATCH_ROWS)})


def allow_descriptors() -> None:
    """Open as many files as this process may: each follower has a connection."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--followers", type=int, default=FOLLOWERS)
    parser.add_argument("--queries", type=int, default=QUERIES, help="snapshot queries beside the followers")
    parser.add_argument("--idle", type=float, default=IDLE_S, metavar="S", help="how long the followers are idle")
    parser.add_argument("--only", choices=["transfer", "latency", "followers"], help="measure this only")
    options = parser.parse_args()
    parts: dict[str, Callable[[argparse.Namespace], None]] = {
        "transfer": _show_transfers, "latency": _show_latency, "followers": _show_followers,
    }  # fmt: skip
    for name, part in parts.items():
        if options.only in (None, name):
            part(options)


def _show_transfers(options: argparse.Namespace) -> None:
    path = measured_file(options.rows)
    lines = [
        anyio.run(compare_transfers, path, columns, options.runs, backend, executor, backend=backend)
        for backend in BACKENDS
        for executor in EXECUTORS
        for columns in (NUMERIC, "*")
    ]
    headings = ["", "", "bytes", "bare", "remote", "ratio (≥ 0.6)"]
    show(f"SELECT of {options.rows:,} rows against a bare transfer, medians of {options.runs}", headings, lines)


def _show_latency(options: argparse.Namespace) -> None:
    lines = anyio.run(added_latency, SMALL_QUERIES)
    show(f"{SMALL_QUERIES} queries for one row", ["", "embedded", "remote", "added (p50 ≤ 5 ms)"], lines)


def _show_followers(options: argparse.Namespace) -> None:
    allow_descriptors()
    path = measured_file(options.rows)
    with streamq_serve("-r", f"measured={path}", memory_bytes=MEMORY) as service:
        lines = anyio.run(crowded, service, options.followers, options.queries, options.idle)
    show(f"{options.followers:,} followers, memory_bytes = {megabytes(MEMORY)}", ["", "seen", "must"], lines)


if __name__ == "__main__":
    main()
