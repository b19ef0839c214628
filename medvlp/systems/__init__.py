"""LightningModules: wiring, no formulas."""
