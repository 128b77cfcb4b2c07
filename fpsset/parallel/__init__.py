"""Sharding over devices: batches, classes and single large sets."""
