"""One file a queue: see `benchmarks.peers`."""
