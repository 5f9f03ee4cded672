"""Heads and their answers -> what they are worth: what evaluate.py is made of."""
