"""The command line: `streamq query`, `streamq explain`, `streamq serve`, `streamq demo`.

- `app`: from arguments to an exit code; `arguments`, `signals`;
- `run_sql`: the statements of a script; `script`, `results`, `progress`;
- `watch`, `folded`, `screen`, `change_rows`: continuous queries, as a result that is kept up to date or as rows that come;
- `serving`: the service;
- `sink`, `formats`, `table`, `wording`: rows and numbers as bytes and text;
- `demo`, `demo_steps`, `demo_page`, `flights`: the demonstration, what it shows and how it looks, and its data;
- `demo_live`, `demo_board`: its live part, and how a moment of it looks.
"""

from streamq.cli.app import main

__all__ = ["main"]
