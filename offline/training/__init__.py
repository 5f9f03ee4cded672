"""Rows -> a trained head: what train.py is made of."""
