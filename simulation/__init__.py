"""A cluster of real replicas in virtual time, driven by a seed, watched by an oracle."""
