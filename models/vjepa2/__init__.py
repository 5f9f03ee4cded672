"""The V-JEPA 2 encoder: weights, preprocessing, and the engines that run it on a GPU or a CPU."""
