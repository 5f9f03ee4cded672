"""Arrays as the bytes of a .npy file."""

from __future__ import annotations

import io
from typing import Any

import numpy as np


def npy(array: np.ndarray[Any, Any]) -> bytes:
    content = io.BytesIO()
    np.save(content, array)
    return content.getvalue()
