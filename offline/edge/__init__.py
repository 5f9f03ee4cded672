"""Exported heads for phones and pages: the LiteRT file, and onnxruntime-web to check with."""
