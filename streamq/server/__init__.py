"""The service: a database over HTTP.

- `app`: the ASGI application, for any server or to be mounted in another; `routes`: what it answers, `asked`: to what, in JSON;
- `responses`: results that are streamed, and end with their client; `formats`: how they look;
- `uploads`: rows that are streamed in; `unread`: requests that are answered before they were read;
- `guard`: who may come in, `rights`: and do what, `refusals`: how the others are told; `logs`: what is written down of it,
  `failures`: what nobody thought of;
- `service`: what all requests share: the database, the limits, who is being answered;
- `openapi`: the description of the service, `json_schema`: of what it sends; `console`: its page, of the files in `console/`;
- `listen`: the application on a socket, by hypercorn, on asyncio and trio; `names`, `tls`.

Needs ``pip install 'streamq[service]'``.
"""

from streamq.config.service import Limits
from streamq.config.tokens import Tokens, read_tokens
from streamq.server.app import app
from streamq.server.listen import check_reach, listen, serve
from streamq.server.tls import server_context

__all__ = ["Limits", "Tokens", "app", "check_reach", "listen", "read_tokens", "serve", "server_context"]
