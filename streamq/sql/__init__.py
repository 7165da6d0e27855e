"""SQL: from text to a bound logical plan. The only package that knows sqlglot, and only the modules that read or write text do."""
