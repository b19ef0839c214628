"""Golden parity: one test per case folder, dispatched by the case's (system, kind)."""
