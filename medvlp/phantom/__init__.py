"""Phantom twins: small data sets with the layout, schemas and oddities of the real ones."""
