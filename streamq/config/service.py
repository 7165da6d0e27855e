"""Settings of a service."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from streamq.config.checks import WrongSetting, about, check_numbers

LogFormat = Literal["text", "json"]
LogLevel = Literal["debug", "info", "warning", "error"]


@dataclass(frozen=True, slots=True)
class Limits:
    """What one service takes, and what it gives.

    `max_request_bytes` bounds a request in JSON, `max_insert_bytes` the rows that are written at once (a batch, or the table of an insert
    that is atomic), `max_register_bytes` an uploaded relation, `max_upload_bytes` what all these hold together. `max_queries` are answered
    at a time, `max_queries_per_token` of one token; those that INSERT … SELECT and EXPLAIN ANALYZE run are among them. A snapshot query, a
    statement and EXPLAIN ANALYZE end after `max_query_s`, a snapshot query once it has given `max_result_bytes`; None is no limit. A client
    that takes nothing, or sends nothing more of what it has begun to send, for `stall_s` is given up: of a request in JSON, or of a batch
    or line of rows. A follower of server-sent events hears something every `keep_alive_s`, so that no proxy takes it for dead.
    """

    max_request_bytes: int = field(default=4 << 20, metadata=about("the largest request in JSON", metavar="BYTES", least=1))
    max_sql_bytes: int = field(
        default=256 << 10, metadata=about("the longest SQL; rows and parameters are not part of it", metavar="BYTES", least=1)
    )
    max_insert_bytes: int = field(default=256 << 20, metadata=about("the most rows that are written at once", metavar="BYTES", least=1))
    max_register_bytes: int = field(default=1 << 30, metadata=about("the largest relation that is uploaded", metavar="BYTES", least=1))
    max_upload_bytes: int = field(default=2 << 30, metadata=about("what all uploads together may hold", metavar="BYTES", least=1))
    max_queries: int = field(default=2_000, metadata=about("queries that are answered at a time", metavar="N", least=1))
    max_queries_per_token: int | None = field(default=None, metadata=about("of these, of one token", metavar="N", least=1))
    max_result_bytes: int | None = field(default=None, metadata=about("the largest result of a snapshot query", metavar="BYTES", least=1))
    max_query_s: float | None = field(
        default=None, metadata=about("the longest that anything but a continuous query may take", metavar="S", least=0)
    )
    stall_s: float = field(
        default=60.0,
        metadata=about("after so long a client that takes nothing, or stops in the middle of a batch, is given up", metavar="S", least=0),
    )
    keep_alive_s: float = field(
        default=15.0, metadata=about("how often a quiet server-sent stream says that it lives", metavar="S", least=0)
    )

    def __post_init__(self) -> None:
        check_numbers(self)


@dataclass(frozen=True, slots=True)
class ServiceConfig:
    """How `streamq serve` listens, who may use it, what it logs and how it ends.

    Names of files may be relative to where they were written: to the directory of ``streamq.toml``, or to the current one.
    """

    host: str = field(
        default="127.0.0.1", metadata=about("the address to listen on; one that other machines reach needs tokens", metavar="ADDRESS")
    )
    port: int = field(default=8471, metadata=about("the port; 0 takes a free one", metavar="PORT", least=0))
    hosts: tuple[str, ...] = field(
        default=(), metadata=about("without tokens: names by which requests may call it, besides localhost; with commas", metavar="NAMES")
    )
    token_file: str | None = field(default=None, metadata=about("who may use it: lines that `streamq token` makes", metavar="FILE"))
    certificate: str | None = field(default=None, metadata=about("serve HTTPS with this certificate chain (PEM)", metavar="FILE"))
    private_key: str | None = field(default=None, metadata=about("the key of the certificate (PEM)", metavar="FILE"))
    client_ca: str | None = field(
        default=None, metadata=about("ask clients for a certificate that one of these signed (PEM)", metavar="FILE")
    )
    insecure: bool = field(default=False, metadata=about("listen for other machines without HTTPS: tokens can be read on the way"))
    shutdown_s: float = field(
        default=10.0, metadata=about("how long queries may run on once it is to end", flag="--grace", metavar="S", least=0)
    )
    log_format: LogFormat = field(
        default="text", metadata=about("how the log is written to standard error: text or json", metavar="FORMAT")
    )
    log_level: LogLevel = field(default="info", metadata=about("what is logged: debug, info, warning or error", metavar="LEVEL"))

    def __post_init__(self) -> None:
        check_numbers(self)
        if self.port > 65_535:
            raise WrongSetting("port", f"port must be at most 65535, not {self.port}")
        if (self.certificate is None) != (self.private_key is None):
            missing, there = ("private_key", "certificate") if self.private_key is None else ("certificate", "private_key")
            raise WrongSetting(there, f"{there} needs {missing} too")
        if self.client_ca is not None and self.certificate is None:
            raise WrongSetting("client_ca", "client_ca needs certificate and private_key too: only HTTPS knows clients by certificates")

    @property
    def has_tls(self) -> bool:
        """It serves HTTPS."""
        return self.certificate is not None


FILES = frozenset({"token_file", "certificate", "private_key", "client_ca", "temp_dir"})
"""The settings that are names of files."""
