"""Distributed runs: collectives, sharding, and launching ranks."""
