"""What tests, chaos and benchmarks share: real processes, clients with books, a proxy."""
