"""The client: the database of a service, with the interface of one in this program.

- `database`: what a database does, as requests;
- `query`: a query that runs there and is read here;
- `transport`: requests and their failures, by httpx;
- `connections`: what they go through, and how it is read;
- `rows`: what users insert and register, as the body of a request.

Needs ``pip install 'streamq[service]'``.
"""

from streamq.client.database import RemoteConnection, RemoteDatabase

__all__ = ["RemoteConnection", "RemoteDatabase"]
