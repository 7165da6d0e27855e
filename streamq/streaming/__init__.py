"""Continuous queries: cuts, epochs, watermarks, the partitions that compute them, and the changes that come out."""
