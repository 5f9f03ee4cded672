"""A small encoder, taught by another: what distil.py is made of."""
