"""Stored rows -> a trained head."""
