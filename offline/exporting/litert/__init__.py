"""An exported head as a LiteRT file for phones."""
