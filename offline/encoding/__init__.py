"""Videos -> rows of numbers on disk: what encode.py is made of."""
