"""Drawn figures: how a sign is signed, as moving points that a page draws; no picture of anybody.

    offline.figures -> DrawnFigure -> [pack_figure, write_figures] -> figures.msgpack in the bundle
    bundle -> [read_figures] -> {gloss: bytes} -> the server -> [web/figure.js] -> a canvas

Points are those of `models.landmarks.layout`, x and y alone, in the body's coordinates: the origin
is the middle of the shoulders, the unit the shoulder width. All points are there in all pictures.

A figure in bytes, little-endian:

    u8 version (1), u8 pictures a second, u16 pictures (2 to 150)
    u8 hands: 1 left, 2 right, 3 both
    int16 x, y of each point in the first picture, then
    int8 by how much each x, y changes, for each further picture

in units of 1 / 128: 13 body points, then 21 of each hand that is drawn, left first. A hand that is
not drawn rests outside of the picture.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.landmarks.layout import BODY_POINTS, HAND_POINTS

MAX_PICTURES = 150
_VERSION = 1
_HEADER = struct.Struct("<BBHB")
_STEPS = 128  # in a shoulder width
_FARTHEST = 8 * _STEPS  # of a point from the origin
_MAX_FIGURE_BYTES = _HEADER.size + 2 * (MAX_PICTURES + 1) * (len(BODY_POINTS) + 2 * HAND_POINTS)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DrawnFigure:
    """How one sign is signed: `fps` pictures a second."""

    fps: int
    body: NDArray[np.float32]  # (T, 13, 2), in the order of `BODY_POINTS`
    hands: tuple[NDArray[np.float32] | None, NDArray[np.float32] | None]  # (T, 21, 2); None: rests


def pack_figure(figure: DrawnFigure) -> bytes:
    """The figure in bytes. What moves faster than 15 shoulder widths a second lags behind.

    Raises:
        ValueError: a shape, the rate or a number is out of range.
    """
    drawn = [hand for hand in figure.hands if hand is not None]
    points = np.concatenate([figure.body, *drawn], axis=1)  # T, N, 2
    flags = sum(1 << side for side, hand in enumerate(figure.hands) if hand is not None)
    if points.ndim != 3 or points.shape[1:] != (_points(flags), 2):
        raise ValueError(f"a figure of points {points.shape}")
    if not 2 <= len(points) <= MAX_PICTURES or not 1 <= figure.fps <= 60:
        raise ValueError(f"a figure of {len(points)} pictures, {figure.fps} a second")
    if not np.isfinite(points).all() or np.abs(points).max() * _STEPS > _FARTHEST:
        raise ValueError("a figure whose points are too far away, or no numbers")
    wanted = np.rint(points.reshape(len(points), -1) * _STEPS).astype(np.int64)
    at, changes = wanted[0], []
    for picture in wanted[1:]:
        change = np.clip(picture - at, -128, 127)
        at = at + change
        changes.append(change.astype(np.int8))
    header = _HEADER.pack(_VERSION, figure.fps, len(points), flags)
    first: bytes = wanted[0].astype("<i2").tobytes()
    return header + first + np.stack(changes).tobytes()


def unpack_figure(data: bytes) -> DrawnFigure:
    """The figure that `pack_figure` made bytes of.

    Raises:
        ValueError: it is not one; one line.
    """
    if len(data) < _HEADER.size:
        raise ValueError("cut before its first point")
    version, fps, pictures, flags = _HEADER.unpack_from(data)
    if version != _VERSION:
        raise ValueError(f"of version {version}; this livegloss reads {_VERSION}")
    if not 1 <= fps <= 60 or not 2 <= pictures <= MAX_PICTURES or flags > 3:
        raise ValueError(f"{pictures} pictures, {fps} a second, hands {flags}")
    numbers = 2 * _points(flags)
    if len(data) != _HEADER.size + numbers * (pictures + 1):
        raise ValueError(f"{len(data)} bytes are not those of {pictures} pictures")
    first = np.frombuffer(data, "<i2", numbers, _HEADER.size)
    changes = np.frombuffer(data, np.int8, -1, _HEADER.size + 2 * numbers)
    steps = np.concatenate([first[None].astype(np.int64), changes.reshape(pictures - 1, numbers)])
    places = steps.cumsum(axis=0)
    if np.abs(places).max() > _FARTHEST:
        raise ValueError("its points are too far away")
    points = (places / _STEPS).astype(np.float32).reshape(pictures, -1, 2)
    body, at = points[:, : len(BODY_POINTS)], len(BODY_POINTS)
    hands: list[NDArray[np.float32] | None] = []
    for side in (0, 1):
        there = bool(flags >> side & 1)
        hands.append(points[:, at : at + HAND_POINTS] if there else None)
        at += HAND_POINTS * there
    return DrawnFigure(fps=fps, body=body, hands=(hands[0], hands[1]))


def _points(flags: int) -> int:
    return len(BODY_POINTS) + HAND_POINTS * flags.bit_count()


class _FigureFile(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """`figures.msgpack`."""

    format: int
    figures: dict[str, bytes]  # gloss -> a figure in bytes


def write_figures(figures: Mapping[str, bytes]) -> bytes:
    """The content of a bundle's `figures.msgpack`: of each gloss what `pack_figure` made."""
    return msgspec.msgpack.encode(_FigureFile(format=1, figures=dict(sorted(figures.items()))))


def read_figures(content: bytes, glosses: Sequence[str]) -> dict[str, bytes]:
    """Gloss -> figure in bytes, each checked, in the order of `glosses`; some may have none.

    Raises:
        ValueError: the content is broken, or has a figure of another gloss; one line.
    """
    file = msgspec.msgpack.decode(content, type=_FigureFile)
    if file.format != 1:
        raise ValueError(f"`format` is {file.format}; this livegloss reads 1")
    for gloss in sorted(file.figures.keys() - set(glosses)):
        raise ValueError(f"has a figure of {gloss!r}, which is no gloss of the bundle")
    for gloss, figure in file.figures.items():
        try:
            unpack_figure(figure)
        except ValueError as exc:
            raise ValueError(f"the figure of {gloss!r}: {exc}") from exc
    return {gloss: file.figures[gloss] for gloss in glosses if gloss in file.figures}
