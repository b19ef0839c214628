"""Benchmarks: what the code costs in seconds, memory and floating-point operations."""
