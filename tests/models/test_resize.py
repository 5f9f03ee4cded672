"""The exact rule: real clips as transformers' processor makes them, live and offline."""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from models.card import spec_as_card, spec_from
from models.encoders import encoder_spec
from models.picture import PictureScaler
from models.resize import resized
from models.schema import EncoderSpec, Frame
from models.vjepa2.preprocess import preprocess
from offline.data.videos import read_video
from offline.encoding.embed import MIDDLE_WINDOW, window_frames
from tests.models.vjepa2.test_preprocess import by_torch, noise
from tests.offline.clips import write_clip

SPEC = EncoderSpec(
    kind="vjepa2",
    source="a",
    revision="1",
    dim=2,
    frames=4,
    fps=8.0,
    short_side=292,
    resize="exact",
)


def decoded(path: Path) -> Iterator[tuple[float, NDArray[np.uint8]]]:
    """Media time and picture of each frame, as anybody reads a video with PyAV."""
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            assert frame.time is not None
            yield round(frame.time, 3), np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)


def of_shape(data_dir: Path, shape: str) -> Path:
    """The first clip in the folder of this kind of shape."""
    with (data_dir / "manifest.csv").open(encoding="utf-8") as stream:
        for line in csv.DictReader(stream):
            width, height = int(line["width"]), int(line["height"])
            kinds = {
                "landscape": height < width and height == 320,
                "portrait": width < height and width == 320,
                "odd": min(width, height) > 292 and (width * 292 / height) % 1 > 0.8,
                "small": min(width, height) < 292,
            }
            if kinds[shape]:
                return data_dir / line["path"]
    raise AssertionError(f"no {shape} clip")


@pytest.mark.parametrize("shape", ["landscape", "portrait", "odd", "small"])
def test_real_clips_are_what_transformers_processor_makes_of_them(
    data_dir: Path, shape: str
) -> None:
    path = of_shape(data_dir, shape)
    pictures = dict(decoded(path))
    first = min(pictures)
    [window] = window_frames(path, SPEC, MIDDLE_WINDOW)
    want = [by_torch(pictures[round(f.media_s + first, 3)], 256).numpy() for f in window]
    ours = preprocess([frame.image for frame in window], 256)
    np.testing.assert_allclose(ours, np.stack(want), atol=1e-6, rtol=0)
    fast = dataclasses.replace(SPEC, resize="fast")
    [window] = window_frames(path, fast, MIDDLE_WINDOW)
    difference = np.abs(preprocess([frame.image for frame in window], 256) - np.stack(want)).max()
    assert (difference > 0.05) == (shape != "small")  # what is not scaled down is the same


@pytest.mark.parametrize("size", [(480, 640), (641, 481), (1080, 1920), (300, 293), (100, 177)])
def test_equals_torch_at_any_size(size: tuple[int, int]) -> None:
    image = noise(*size)
    ours = resized(image, 292)
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None]
    want = torch.nn.functional.interpolate(
        pixels, ours.shape[:2], mode="bilinear", antialias=True, align_corners=False
    )
    np.testing.assert_array_equal(ours, want[0].permute(1, 2, 0).numpy())
    assert min(ours.shape[:2]) == 292 and resized(ours, 292) is ours


def test_a_turned_picture_is_turned_before_it_is_resized(tmp_path: Path) -> None:
    """The rule goes across and then down, with a rounding between."""
    path = write_clip(tmp_path / "a.mp4", 2, size=(640, 480), rotation=90)
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
        upright = np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90))
    got: Frame = next(read_video(path, 292, resize="exact"))
    np.testing.assert_array_equal(got.image, resized(np.ascontiguousarray(upright), 292))
    assert got.image.shape == (389, 292, 3)


def test_pixels_that_are_not_square(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", 1, size=(480, 480), aspect=Fraction(4, 3))
    assert next(read_video(path, 292, resize="exact")).image.shape == (292, 389, 3)


def test_the_live_decoders_scaler_gives_the_same(data_dir: Path) -> None:
    path = of_shape(data_dir, "landscape")
    with av.open(str(path)) as container:
        picture = next(container.decode(video=0))
        live = PictureScaler(292, "exact").rgb(picture)
    np.testing.assert_array_equal(live, next(read_video(path, 292, resize="exact")).image)


def test_a_card_states_the_exact_rule_alone() -> None:
    assert spec_as_card(SPEC)["resize"] == "exact"
    assert spec_from(spec_as_card(SPEC)) == SPEC
    usual = dataclasses.replace(SPEC, resize="fast")
    assert "resize" not in spec_as_card(usual) and spec_from(spec_as_card(usual)) == usual
    with pytest.raises(ValueError, match="resize"):
        spec_from({**spec_as_card(SPEC), "resize": "exactly"})


def test_landmarks_have_no_exact_rule() -> None:
    with pytest.raises(ValueError, match="--resize exact"):
        encoder_spec("landmarks", None, None, "exact")
