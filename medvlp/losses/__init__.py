"""Losses: pure formulas and the modules that gather over ranks."""
