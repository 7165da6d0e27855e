"""Vectorised inner loops, and the DuckDB session that workers run SQL in."""
