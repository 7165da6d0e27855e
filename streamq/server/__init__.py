"""The service: a database over HTTP.

- `app`: the ASGI application, for any server or to be mounted in another; `routes`: what it answers;
- `responses`: results that are streamed, and end with their client; `formats`: how they look;
- `uploads`: rows that are streamed in; `unread`: requests that are answered before they were read;
- `service`: what all requests share: the database, the limits, who is being answered;
- `listen`: the application on a socket, by hypercorn, on asyncio and trio.

Needs ``pip install 'streamq[service]'``.
"""

from streamq.server.app import app
from streamq.server.listen import listen, serve
from streamq.server.service import Limits

__all__ = ["Limits", "app", "listen", "serve"]
