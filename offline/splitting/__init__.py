"""Which clips may not stand on both sides of a split, and the splits."""
