"""Relations whose rows come from elsewhere: files (`files`) and Arrow objects (`arrow`), made by `registered`."""

from streamq.connectors.registration import registered

__all__ = ["registered"]
