"""How fast V-JEPA 2 runs here: `python -m models.bench`."""
