"""SQL: from text to a bound logical plan. The only package that knows sqlglot."""

from streamq.sql.parse import parse, parse_one

__all__ = ["parse", "parse_one"]
