"""Gathering over ranks and sharding of parameters."""
