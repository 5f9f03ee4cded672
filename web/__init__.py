"""The page that people open, and its files."""

import models  # noqa: F401  (before any library that would send usage data)
