"""Whole models: towers and heads put together."""
