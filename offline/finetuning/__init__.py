"""Trains V-JEPA 2 itself together with a head, from videos: what finetune.py is made of."""
