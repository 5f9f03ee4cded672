"""The offline half: labelled videos -> embeddings -> trained head -> evaluation -> bundle."""
