"""The command line: `streamq query`, `streamq explain`, `streamq demo`.

- `app`: from arguments to an exit code; `arguments`, `signals`;
- `run_sql`: the statements of a script; `script`, `results`, `progress`;
- `sink`, `formats`, `json_lines`, `table`: rows as bytes;
- `demo`, `flights`: the demonstration and its data.
"""

from streamq.cli.app import main

__all__ = ["main"]
