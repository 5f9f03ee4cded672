"""The offline half: labelled videos -> embeddings -> trained head -> evaluation -> bundle."""

import models  # noqa: F401  (before any library that would send usage data)
