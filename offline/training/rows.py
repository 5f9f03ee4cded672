"""The numbers of one embedding, left on disk until they are wanted.

    index.csv -> [rows] -> examples -> lessons

An index of WLASL's size does not fit into memory, and is not read into it: `StoredRows` knows where
the numbers of a `.npy` file begin, and reads them each time that it is asked.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike, NDArray

from offline.encoding.store import UNREADABLE

_BFLOAT16 = np.dtype("V2")  # as numpy names the two bytes that ml_dtypes' bfloat16 writes


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRows:
    """Rows (T, D) in a `.npy` file. `np.asarray(rows, np.float32)` reads them."""

    path: Path
    shape: tuple[int, int]
    dtype: np.dtype[np.generic]
    offset: int  # bytes before the first number

    @classmethod
    def of(cls, path: Path) -> StoredRows:
        """The rows of the file at `path`, looked through once.

        Raises:
            ValueError: it has no rows of finite floats (float16, bfloat16, float32 or float64).
        """
        try:
            # As text: of a Path numpy looks up each folder on the way, for every file.
            table = np.load(str(path), mmap_mode="r", allow_pickle=False)
        except UNREADABLE as exc:
            raise ValueError(f"{path}: no rows of numbers: {exc}") from exc
        floats = np.issubdtype(table.dtype, np.floating) or table.dtype == _BFLOAT16
        if table.ndim != 2 or 0 in table.shape or not floats or not table.flags.c_contiguous:
            raise ValueError(f"{path}: {table.dtype} of shape {table.shape}, not floats (T, D)")
        stored = cls(path=path, shape=table.shape, dtype=table.dtype, offset=table.offset)
        if not np.isfinite(_as_float32(table)).all():
            raise ValueError(f"{path}: has numbers that are not finite")
        return stored

    def __array__(
        self, dtype: DTypeLike | None = None, copy: bool | None = None
    ) -> NDArray[np.generic]:
        count = math.prod(self.shape)
        try:
            numbers = np.fromfile(self.path, self.dtype, count, offset=self.offset)
        except OSError as exc:
            raise ValueError(f"{self.path}: can't be read any more: {exc.strerror}") from exc
        if len(numbers) != count:
            raise ValueError(f"{self.path}: was cut while it was in use")
        return _as_float32(numbers.reshape(self.shape)).astype(dtype or np.float32, copy=False)


def _as_float32(table: NDArray[np.generic]) -> NDArray[np.float32]:
    if table.dtype == _BFLOAT16:  # the upper half of a float32
        return (table.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
    with np.errstate(over="ignore"):  # a float64 out of range becomes inf, which is refused
        return table.astype(np.float32, copy=False)
