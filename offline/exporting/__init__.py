"""Heads and encoders -> files that run without torch, and how alike they answer."""
