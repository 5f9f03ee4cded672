"""What the live and the offline half share: types, windows, encoders, heads, bundles."""
