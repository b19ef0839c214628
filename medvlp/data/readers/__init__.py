"""From files to `Scan`: one module per format."""
