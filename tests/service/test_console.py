"""The console in a real browser: what a person does with it, by mouse and by keyboard, in light and dark."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import anyio.abc
import anyio.from_thread
import httpx
import pyarrow as pa
import pytest

import streamq
from streamq.config.tokens import make_token, read_tokens
from streamq.server import app
from tests.service.browser import chromium
from tests.service.conftest import PATIENCE_S, serving
from tests.service.readable import brightness_of, check_readable

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, ViewportSize

BROWSER_MS = 20_000
WIDE: ViewportSize = {"width": 1280, "height": 800}
NARROW: ViewportSize = {"width": 360, "height": 740}
START = datetime(2026, 5, 1, 12)
PAGES = ["/", "/about", "/docs", "/docs/sql", "/", "/", "/docs"]
FOLLOW = "SELECT page, count(*) AS clicks, max(took) AS slowest FROM clicks GROUP BY page EMIT CHANGES"


@dataclass(frozen=True, slots=True)
class Console:
    """A service of a database, in a thread of its own, and a browser. What is at `guarded_url` asks for `token`, which may only read."""

    url: str
    guarded_url: str
    token: str
    database: streamq.Database
    portal: anyio.from_thread.BlockingPortal
    browser: Browser

    def insert(self, relation: str, *rows: dict[str, Any]) -> None:
        """Write rows, past the page."""
        self.portal.call(partial(self.database.insert, relation, list(rows)))

    def running(self) -> list[str]:
        """Give the ids of the queries that run, of views not."""
        return [query.query_id for query in self.portal.call(self.database.queries) if query.view is None]


def wait(until: Callable[[], bool]) -> None:
    """Wait for something in the service or on the page, which may not evaluate what is no file of its own, and so cannot wait itself."""
    give_up = time.monotonic() + PATIENCE_S
    while not until():
        assert time.monotonic() < give_up, "it never happened"
        time.sleep(0.03)


@pytest.fixture(scope="module")
def console(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Console]:
    token, line = make_token("reader", "read")
    path = tmp_path_factory.mktemp("console") / "tokens"
    path.write_text(line)
    tokens = read_tokens(path)

    async def serve(*, task_status: anyio.abc.TaskStatus[tuple[str, str, streamq.Database]]) -> None:
        async with (
            streamq.connect(executor="thread", workers=2, target_partitions=2) as database,
            serving(app(database)) as url,
            serving(app(database, tokens=tokens)) as guarded_url,
        ):
            await database.execute(
                "CREATE SOURCE clicks (page VARCHAR, took DOUBLE, ts TIMESTAMP, WATERMARK FOR ts AS ts - INTERVAL '5' SECOND)"
            )
            await database.execute("CREATE TABLE people (id BIGINT, name VARCHAR, PRIMARY KEY (id))")
            await database.execute("CREATE MATERIALIZED VIEW busiest AS SELECT page, count(*) AS clicks FROM clicks GROUP BY page")
            await database.register("numbers", pa.table({"n": pa.arange(0, 200_000)}))
            rows = [{"page": page, "took": n * 0.25, "ts": START + timedelta(seconds=n)} for n, page in enumerate(PAGES)]
            await database.insert("clicks", rows)
            task_status.started((url, guarded_url, database))
            await anyio.sleep_forever()

    with chromium() as browser, anyio.from_thread.start_blocking_portal() as portal:
        running, (url, guarded_url, database) = portal.start_task(serve)
        yield Console(url, guarded_url, token, database, portal, browser)
        running.cancel()


@dataclass(frozen=True, slots=True)
class Tab:
    """A tab of the browser, and what was said in its console."""

    page: Page
    said: list[str]


@pytest.fixture(scope="module")
def tab(console: Console) -> Iterator[Tab]:
    """One for all tests: each has a process of the browser, which is most of what a test takes."""
    context = console.browser.new_context(viewport=WIDE)
    context.set_default_timeout(BROWSER_MS)
    tab = Tab(context.new_page(), [])
    tab.page.on("console", lambda message: tab.said.append(message.text))
    tab.page.on("pageerror", lambda error: tab.said.append(str(error)))
    yield tab
    context.close()


@pytest.fixture
def page(console: Console, tab: Tab) -> Iterator[Page]:
    """The console as one finds it."""
    with opened(console, tab, console.url) as page:
        yield page


@contextmanager
def opened(console: Console, tab: Tab, url: str, ready: str = "#relations li", **media: Any) -> Iterator[Page]:
    """Open the console in a tab. It must say nothing in the browser's own console, but that requests were refused; then it is left."""
    tab.said.clear()
    tab.page.emulate_media(**{"color_scheme": "light", "reduced_motion": "no-preference"} | media)
    tab.page.set_viewport_size(WIDE)
    tab.page.goto(f"{url}/")
    tab.page.wait_for_selector(ready)
    yield tab.page
    tab.page.evaluate("sessionStorage.clear()")
    # It is of the same origin, which the browser shows in the same process.
    tab.page.goto(f"{url}/healthz")
    assert [text for text in tab.said if not text.startswith("Failed to load resource")] == []
    wait(lambda: console.running() == [])


def run(page: Page, sql: str, state: str | None = None) -> None:
    """Write a statement and run it; wait for a state of the answer."""
    page.fill("#sql", sql)
    page.keyboard.press("Control+Enter")
    if state is not None:
        page.wait_for_selector(f"#state[data-state={state}]")


def rows(page: Page) -> list[list[str]]:
    """Give the cells that are shown."""
    shown: list[list[str]] = page.eval_on_selector_all("#table tbody tr", "lines => lines.map(l => [...l.cells].map(c => c.textContent))")
    return shown


def wait_for_row(page: Page, *cells: str) -> None:
    wait(lambda: list(cells) in rows(page))


# Queries


def test_a_snapshot_query(page: Page) -> None:
    """Its rows are shown as they are: every digit, NULL as such, and text as text."""
    run(page, "SELECT 12345678901234567890 AS big, 1e-7 AS d, NULL AS none, '<b id=x>&amp;' AS html, 1 AS html", "complete")
    assert rows(page) == [["12345678901234567890", "1e-7", "NULL", "<b id=x>&amp;", "1"]]
    assert page.locator("th button").all_inner_texts() == ["big", "d", "none", "html", "html_1"]
    assert page.inner_text("#facts").startswith("1 row ·")
    assert page.locator("#x").count() == 0


def test_a_large_answer_waits_for_its_reader(page: Page, console: Console) -> None:
    """The page keeps 500 rows. What it does not show is not read."""
    run(page, "SELECT n FROM numbers ORDER BY n", "waiting")
    assert [row for (row,) in rows(page)] == [str(n) for n in range(500)]
    (query,) = [query for query in console.portal.call(console.database.queries) if query.view is None]
    assert query.rows_out < 200_000
    page.click("#next")
    wait_for_row(page, "999")
    assert [row for (row,) in rows(page)] == [str(n) for n in range(500, 1_000)]
    page.click("#stop")
    page.wait_for_selector("#state[data-state=stopped]")


def test_following_a_query(page: Page, console: Console) -> None:
    """Changes are folded by key, and what has changed is marked for a while."""
    console.portal.call(console.database.execute, "CREATE SOURCE visits (page VARCHAR, took DOUBLE)")
    console.insert("visits", {"page": "/", "took": 1.5}, {"page": "/docs", "took": 2.5}, {"page": "/docs"})
    run(page, FOLLOW.replace("clicks GROUP", "visits GROUP"), "following")
    wait_for_row(page, "/docs", "2", "2.5")
    assert page.locator("td[data-changed]").count() == 0
    console.insert("visits", {"page": "/docs", "took": 9.5}, {"page": "/new"})
    wait_for_row(page, "/docs", "3", "9.5")
    wait_for_row(page, "/new", "1", "NULL")
    assert [line[0] for line in rows(page)] == ["/", "/docs", "/new"]
    assert "by page" in page.inner_text("#facts")
    page.wait_for_selector("td[data-changed]", state="detached")
    console.insert("visits", {"page": "/docs", "took": 1.0})
    page.wait_for_selector("td[data-changed]")
    assert page.locator("td[data-changed]").all_inner_texts() == ["4"]
    page.keyboard.press("Escape")
    page.wait_for_selector("#state[data-state=stopped]")


def test_a_top_n(page: Page, console: Console) -> None:
    """Where rows have no key, each that is withdrawn goes."""
    console.portal.call(console.database.execute, "CREATE SOURCE scores (n BIGINT)")
    run(page, "SELECT n FROM scores ORDER BY n DESC LIMIT 2 EMIT CHANGES", "following")
    for scores, best in (([3, 3, 1], ["3", "3"]), ([7], ["3", "7"]), ([9], ["7", "9"])):
        console.insert("scores", *({"n": score} for score in scores))
        wait_for_row(page, best[1])
        wait(partial(lambda best: sorted(row for (row,) in rows(page)) == best, best))
    page.click("#stop")


def test_an_endless_answer_is_bounded(page: Page, console: Console) -> None:
    """Of rows that are only ever added, the page keeps the latest, on top."""
    console.portal.call(console.database.execute, "CREATE SOURCE ticks (n BIGINT)")
    run(page, "SELECT n FROM ticks EMIT CHANGES", "following")
    console.insert("ticks", *({"n": n} for n in range(1_700)))
    wait_for_row(page, "1699")
    assert [row for (row,) in rows(page)] == [str(n) for n in range(1_699, 1_199, -1)]
    assert page.inner_text("#facts").startswith("latest 500 of 1,700 rows")
    page.click("#stop")


def test_statements_of_a_script(page: Page, console: Console) -> None:
    """What runs is the statement at the cursor; a command leaves the query that is followed alone."""
    page.fill("#sql", "INSERT INTO people VALUES (1, 'a;b'); -- one;\n\nSELECT name FROM people EMIT CHANGES;\nSHOW RELATIONS")
    page.evaluate("document.getElementById('sql').setSelectionRange(60, 60)")
    page.keyboard.press("Control+Enter")
    page.wait_for_selector("#state[data-state=following]")
    page.evaluate("document.getElementById('sql').setSelectionRange(3, 3)")
    page.keyboard.press("Control+Enter")
    wait_for_row(page, "a;b")
    assert page.inner_text("#notice") == "Done: insert, 1 row."
    page.keyboard.press("Control+End")
    page.keyboard.press("Control+Enter")
    page.wait_for_selector("td:text-is('busiest')")
    wait(lambda: console.running() == [])


SPLITS = [
    ("SELECT 1", ["SELECT 1"]),
    (" ;; a ;\n-- b;\nc", ["a", "c"]),
    ("SELECT ';' AS \";\" /* ; */; x $$;$$", ["SELECT ';' AS \";\"", "x $$;$$"]),
    ("SELECT 'it''s; open", ["SELECT 'it''s; open"]),
    ("-- nothing", []),
]


def test_statements_are_found(page: Page) -> None:
    """Semicolons in texts, names and comments end none."""
    find = "async (sql) => (await import('./console/sql.js')).statements(sql).map(({start, end}) => sql.slice(start, end))"
    assert [page.evaluate(find, sql) for sql, _ in SPLITS] == [found for _, found in SPLITS]


def test_errors(page: Page) -> None:
    """They have a caret below the place, which is marked in the editor too, and a hint."""
    run(page, "SELECT 1;\nSELECT page,\n  foo FROM clicks", "failed")
    error = page.inner_text("#error")
    assert error.startswith('BindError Referenced column "foo" not found')
    assert "(line 2, column 3)" in error
    assert page.inner_text("#error pre") == "  foo FROM clicks\n  ^"
    assert "Hint" not in page.inner_text("#error .hint")
    assert page.inner_text(".wrong") == "foo"
    run(page, "SELECT 1 // 0 AS n", "failed")
    assert page.inner_text("#error").startswith("DataError")


def test_a_plan(page: Page, console: Console) -> None:
    """Stages, what they keep, and of a running query its partitions with their watermarks."""
    per_minute = "SELECT window_start, count(*) AS n FROM TUMBLE(clicks, ts, INTERVAL '1' MINUTE) GROUP BY window_start"
    run(page, f"{per_minute} EMIT CHANGES", "following")
    page.click("#plan-tab")
    page.wait_for_selector(".stage")
    stages = page.locator(".stage h3").all_inner_texts()
    assert [title.split("  ")[0] for title in stages] == [f"Stage {number}{title[7:]}" for number, title in enumerate(stages, 1)]
    assert "one group for each window_start" in page.inner_text("#plan")
    page.wait_for_selector("#live:not([hidden])")
    assert "clicks, partition 0" in page.inner_text("#live")
    assert "query/aggregate" in page.inner_text("#live")
    page.click("#stop")
    page.fill("#sql", "SELECT n % 10, count(*) FROM numbers GROUP BY 1")
    page.click("#explain")
    wait(lambda: "TwoPhaseAggregation" in page.inner_text("#plan"))


def test_cancelling_a_query(page: Page, console: Console) -> None:
    """A query in the list ends at once, whoever reads it."""
    run(page, FOLLOW, "following")
    page.click("button:has-text('Cancel')")
    page.wait_for_selector("#state[data-state=cancelled]")
    wait(lambda: console.running() == [])
    page.wait_for_selector("button:has-text('Cancel')", state="detached")
    assert page.evaluate("document.activeElement.id") == "queries-title"


def test_relations(page: Page) -> None:
    """Each shows its columns, its key, and its watermark, and writes a statement."""
    assert page.locator("summary .name").all_inner_texts()[:4] == ["clicks", "people", "busiest", "numbers"]
    page.click("summary:has-text('people')")
    assert page.locator("details[open] .columns li").all_inner_texts() == ["id\nBIGINT\nkey", "name\nVARCHAR"]
    page.click("summary:has-text('clicks')")
    assert "watermark ts - INTERVAL '5' SECOND" in page.inner_text("details[open] .watermark")
    page.fill("#sql", "SELECT 1")
    page.click("button[aria-label='Follow people']")
    assert page.input_value("#sql") == "SELECT 1;\n\nSELECT * FROM people EMIT CHANGES;"


def test_a_token(console: Console, tab: Tab) -> None:
    """Where the service wants one it is asked for, again if it is wrong, and kept for this tab; what it does not suffice for is said."""
    with opened(console, tab, console.guarded_url, "#token-dialog[open]") as page:
        page.keyboard.type("streamq_wrong")
        page.keyboard.press("Enter")
        page.wait_for_selector("#token-title:text-is('The token was refused')")
        page.keyboard.press("Escape")
        page.wait_for_selector("#service:text-is('A token is needed')")
        assert page.locator("#relations li").count() == 0
        page.click("#token-button")
        page.keyboard.type(console.token)
        page.keyboard.press("Enter")
        page.wait_for_selector("#relations li")
        run(page, "SELECT 1 AS n", "complete")
        assert console.token not in page.content()
        page.reload()
        page.wait_for_selector("#relations li")
        assert page.locator("#token-dialog[open]").count() == 0
        run(page, "DROP TABLE people")
        page.wait_for_selector("#error:has-text('this needs the right admin')")


# The page


def test_by_keyboard_alone(page: Page) -> None:
    """Everything is reached by Tab, and one sees where one is; Tab leaves the editor."""
    page.keyboard.press("Shift+Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the editor"
    page.keyboard.press("Enter")
    page.keyboard.press("Control+a")
    page.keyboard.type("SELECT 1 AS one")
    page.keyboard.press("Control+Enter")
    page.wait_for_selector("#state[data-state=complete]")
    seen = []
    for _ in range(7):
        page.keyboard.press("Tab")
        seen.append(page.evaluate("document.activeElement.id || document.activeElement.tagName"))
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid", seen
    assert seen == ["run", "explain", "result-tab", "rows", "BUTTON", "SUMMARY", "SUMMARY"]
    page.focus("#result-tab")
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.id") == "plan-tab"
    page.wait_for_selector(".stage")
    page.focus("summary")
    page.keyboard.press("Enter")
    assert page.locator("details[open]").count() == 1
    page.focus("#sql")
    page.fill("#sql", "  SELECT 1")
    page.keyboard.press("End")
    page.keyboard.press("Enter")
    page.keyboard.type("AS x")
    assert page.input_value("#sql") == "  SELECT 1\n  AS x"
    page.keyboard.press("Control+/")
    assert page.input_value("#sql") == "  SELECT 1\n--   AS x"


def test_sorting(page: Page) -> None:
    """By a click on a column: up, down, as they came."""
    run(page, "SELECT n FROM (VALUES (10), (9), (NULL)) t(n)", "complete")
    for order, said in (["9", "10", "NULL"], "ascending"), (["NULL", "10", "9"], "descending"), (["10", "9", "NULL"], None):
        page.click("th button")
        assert [row for (row,) in rows(page)] == order
        assert page.get_attribute("th", "aria-sort") == said


def test_headers(console: Console) -> None:
    """The page runs nothing but its own files, in no other page's frame; nothing of it is out of date."""
    with httpx.Client(base_url=console.url, trust_env=False) as http:
        for path, kind in (("/", "text/html"), ("/console/app.js", "text/javascript"), ("/console/icon.svg", "image/svg+xml")):
            said = http.get(path)
            assert said.status_code == 200
            assert said.headers["content-type"].startswith(kind)
            assert "default-src 'none'; script-src 'self'" in said.headers["content-security-policy"]
            assert "unsafe" not in said.headers["content-security-policy"]
            assert said.headers["x-content-type-options"] == "nosniff"
            assert http.get(path, headers={"if-none-match": said.headers["etag"]}).status_code in (200, 304)
        assert http.get("/console/../app.py").status_code == http.get("/console/%2e%2e/app.py").status_code == 404
        assert http.post("/console/app.js").status_code == http.post("/").status_code == 405


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_readable(console: Console, tab: Tab, scheme: str) -> None:
    """In light and dark, wide and narrow: every text has contrast, and nothing runs out of the page."""
    with opened(console, tab, console.url, color_scheme=scheme) as page:
        run(page, FOLLOW, "following")
        wait_for_row(page, "/about", "1", "0.25")
        page.click("summary:has-text('clicks')")
        console.insert("clicks", {"page": "/docs", "took": 20.0, "ts": START})
        page.wait_for_selector("td[data-changed]")
        check_readable(page, at_least=40)
        brightness = brightness_of(page)
        assert brightness > 200 if scheme == "light" else brightness < 60
        page.click("#plan-tab")
        page.wait_for_selector("#live:not([hidden]) table")
        page.wait_for_selector(".stage")
        check_readable(page, at_least=60)
        page.set_viewport_size(NARROW)
        check_readable(page, at_least=60)
        page.click("#result-tab")
        run(page, "SELECT 'a' AS\n  nothing, wrong -- why\nFROM clicks WHERE took > 1.5", "failed")
        check_readable(page, at_least=40)
        page.evaluate("document.getElementById('token-dialog').showModal()")
        check_readable(page, at_least=40)


def test_motion_is_reduced(console: Console, tab: Tab) -> None:
    """Who asked for none sees a mark that stays and goes, and nothing that moves."""
    with opened(console, tab, console.url, reduced_motion="reduce") as page:
        run(page, FOLLOW, "following")
        wait_for_row(page, "/about", "1", "0.25")
        console.insert("clicks", {"page": "/docs", "took": 30.0, "ts": START})
        page.wait_for_selector("td[data-changed]")
        assert page.evaluate("document.getAnimations().length") == 0
        assert page.evaluate("getComputedStyle(document.querySelector('td')).transitionDuration") == "0s"
