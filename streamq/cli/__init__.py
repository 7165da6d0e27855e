"""The command line: `streamq query`, `explain`, `insert`, `queries`, `cancel`, `shell`, `serve`, `token`, `demo`.

- `app`: from arguments to an exit code; `arguments`, `signals`, and `opening`: the database that a command is about;
- `run_sql`: the statements of a script; `statements`: one of them; `script`, `results`, `progress`;
- `watch`, `folded`, `screen`, `change_rows`: continuous queries, as a result that is kept up to date or as rows that come;
- `shell`: statements as they are typed;
- `inserting`, `reading`: files of rows into a service; `running`: what runs there;
- `serving`, `serve_settings`, `tokens`: the service, and who may use it;
- `sink`, `formats`, `table`, `wording`: rows and numbers as bytes and text;
- `demo`, `demo_steps`, `demo_page`, `flights`: the demonstration, what it shows and how it looks, and its data;
- `demo_live`, `demo_board`: its live part, and how a moment of it looks.
"""

from streamq.cli.app import main

__all__ = ["main"]
