"""A cluster of real replicas in virtual time: for random histories, the search, and benchmarks."""
