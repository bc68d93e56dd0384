"""Faults under load on a cluster of real processes."""
