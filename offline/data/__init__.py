"""What there is to learn from: labels, videos, the index of embeddings, splits and duplicates."""
