"""Settings, and where they come from.

- `database`: those of a database, `streamq.Config`;
- `service`: those of `streamq serve`, with the limits of a service;
- `sources`: arguments, else ``STREAMQ_*`` in the environment, else a file, else the default, and which of these it was;
- `file`: ``streamq.toml``.
"""

from streamq.config.database import MAX_PARTITIONS, Config, Executor, clamp_partitions, usable_cpus

__all__ = ["MAX_PARTITIONS", "Config", "Executor", "clamp_partitions", "usable_cpus"]
