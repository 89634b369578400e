"""Engines: where runs live, and what trains an epoch of many at once."""
