"""The comparison table: what other methods, and the Face Transformer in its stages, make of the same faces."""
