"""`streamq shell`: statements as they are typed, or as they come from a pipe.

- `session`: one statement or command after the other; `commands`: those that begin with a backslash;
- `interactive`: a person types, and Ctrl-C cancels what runs; `piped`: standard input is no terminal;
- `prompt`: the line that is typed, by prompt_toolkit; `completion`: what it is completed with.

At a terminal it needs ``pip install 'streamq[shell]'``.
"""

from streamq.cli.shell.run import run_shell

__all__ = ["run_shell"]
