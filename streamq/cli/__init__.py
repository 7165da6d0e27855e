"""The command line: `streamq query`, `streamq explain`, `streamq demo`.

- `app`: from arguments to an exit code; `arguments`, `signals`;
- `run_sql`: the statements of a script; `script`, `results`, `progress`;
- `sink`, `formats`, `json_lines`, `table`, `wording`: rows and numbers as bytes and text;
- `demo`, `demo_steps`, `demo_page`, `flights`: the demonstration, what it shows and how it looks, and its data.
"""

from streamq.cli.app import main

__all__ = ["main"]
