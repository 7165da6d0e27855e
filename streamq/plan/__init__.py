"""Plans as frozen data: strategies, stages of fragments, splits and leases, pruning, EXPLAIN."""
