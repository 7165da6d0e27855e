"""A real Prometheus for tests: found on the path, or unpacked from Debian's package."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

PATIENCE_S = 60
"""Ends what hangs; no test depends on how long anything takes."""
CONFIGURATION = """
global: {{scrape_interval: 200ms, evaluation_interval: 200ms}}
rule_files: ["{rules}"]
scrape_configs:
  - job_name: streamq
    static_configs: [{{targets: ["{target}"]}}]
"""


class Unavailable(Exception):
    """There is no Prometheus here, for this reason."""


@dataclass(frozen=True, slots=True)
class Programs:
    """Where the programs are."""

    prometheus: str
    promtool: str


def find_programs(cache: Path) -> Programs:
    """Find Prometheus; if need be, unpack Debian's package below `cache`, which takes no root.

    Raises:
        Unavailable: it cannot be had.
    """
    found = shutil.which("prometheus"), shutil.which("promtool")
    if found[0] and found[1]:
        return Programs(found[0], found[1])
    unpacked = cache / "unpacked"
    if not unpacked.exists():
        with tempfile.TemporaryDirectory(dir=cache) as scratch:
            _unpack(Path(scratch))
            try:
                os.rename(Path(scratch) / "unpacked", unpacked)
            except OSError:
                if not unpacked.exists():  # no other test process was faster
                    raise
    programs = unpacked / "usr" / "bin"
    return Programs(str(programs / "prometheus"), str(programs / "promtool"))


def _unpack(scratch: Path) -> None:
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        raise Unavailable("prometheus is not on the path, and this is no Debian to have it from")
    own = {"Dir::State": scratch / "state", "Dir::State::status": "/var/lib/dpkg/status", "Dir::Cache": scratch / "cache"}
    options = [option for name, value in own.items() for option in ("-o", f"{name}={value}")]
    for folder in ("state/lists/partial", "cache/archives/partial"):
        (scratch / folder).mkdir(parents=True)
    try:
        # The lists of packages that this machine has may be there and fit; else they are fetched.
        _run(["apt-get", "download", "prometheus"], scratch)
    except subprocess.SubprocessError:
        try:
            _run(["apt-get", *options, "update"], scratch)
            _run(["apt-get", *options, "download", "prometheus"], scratch)
        except subprocess.SubprocessError as error:
            raise Unavailable(f"prometheus is not on the path, and Debian's package cannot be had: {error}") from error
    (package,) = scratch.glob("prometheus_*.deb")
    _run(["dpkg-deb", "-x", str(package), "unpacked"], scratch)


def _run(command: list[str], directory: Path) -> None:
    subprocess.run(command, cwd=directory, check=True, capture_output=True, timeout=PATIENCE_S)


@contextmanager
def scraping(programs: Programs, target: str, rules: Path, directory: Path) -> Iterator[str]:
    """Run a Prometheus that scrapes `target` (a host and port), and give its URL."""
    configuration = directory / "prometheus.yaml"
    configuration.write_text(CONFIGURATION.format(rules=rules, target=target))
    command = [programs.prometheus, f"--config.file={configuration}", f"--storage.tsdb.path={directory / 'data'}"]
    with subprocess.Popen([*command, "--web.listen-address=127.0.0.1:0"], stderr=subprocess.PIPE, text=True) as process:
        try:
            yield f"http://{_address(process)}"
        finally:
            process.kill()


def _address(process: subprocess.Popen[str]) -> str:
    """Read the log until it says where the server listens."""
    assert process.stderr is not None
    said = ""
    for line in process.stderr:
        said += line
        if found := re.search(r'"Listening on" address=(\S+)', line):
            return found[1]
    raise RuntimeError(f"prometheus ended:\n{said}")


async def ask(server: httpx.AsyncClient, path: str, **parameters: str) -> Any:
    """Call the HTTP API of a Prometheus.

    Raises:
        ValueError: it answers with an error, such as one in an expression.
    """
    answer = (await server.get(f"/api/v1/{path}", params=parameters)).json()
    if answer["status"] != "success":
        raise ValueError(f"{answer['error']}: {parameters}")
    return answer["data"]
