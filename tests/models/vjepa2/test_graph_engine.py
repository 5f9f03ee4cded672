from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from models.schema import EncoderSpec
from models.vjepa2.checkpoint import vjepa2_spec
from models.vjepa2.engine import Pictures, on_host
from models.vjepa2.graph import FLOAT32, WAYS, GraphVariant, has_bfloat16, spare_cores
from models.vjepa2.graph_engine import GraphEngine, fastest, open_graph_engine, usable_variants
from models.vjepa2.torch_engine import TorchEngine
from tests.models.heads_onnx import mean_head
from tests.models.tiny_graphs import make_graphs, pictures
from tests.models.tiny_vjepa2 import make_checkpoint

SIDE = 36  # px: what a crop of 32 is cut from


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> EncoderSpec:
    folder = make_checkpoint(tmp_path_factory.mktemp("checkpoint"))
    return vjepa2_spec(str(folder), frames=4)


@pytest.fixture(scope="module")
def folder(spec: EncoderSpec, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("graphs")
    make_graphs(folder, spec)
    return folder


def clip(seed: int, frames: int = 4) -> list[NDArray[np.uint8]]:
    return list(pictures(seed, SIDE, frames))


@pytest.mark.parametrize(
    ("name", "difference", "cosine"),
    [
        ("openvino-float32", 1e-4, 0.9999),
        ("onnxruntime-float32", 1e-4, 0.9999),
        ("openvino-bfloat16", 0.2, 0.999),
        ("openvino-int8", 0.2, 0.999),
        ("onnxruntime-int8", 0.2, 0.999),
    ],
)
def test_gives_what_torch_gives(
    spec: EncoderSpec, folder: Path, name: str, difference: float, cosine: float
) -> None:
    engine = GraphEngine(spec, GraphVariant.of(name, folder), threads=1)
    clips = [clip(seed) for seed in range(20, 24)]
    got, want = engine.encode(clips), on_host(TorchEngine.open(spec, "cpu").encode(clips))
    assert got.shape == want.shape == (4, 2, 32) and got.dtype == np.float32
    assert np.abs(got - want).max() <= difference
    lengths = np.linalg.norm(got, axis=-1) * np.linalg.norm(want, axis=-1)
    assert ((got * want).sum(-1) / lengths).min() >= cosine
    assert (engine.name, engine.device) == (name.replace("-", " "), "cpu")


@pytest.mark.parametrize("name", WAYS)
def test_a_clip_is_the_same_alone_and_in_any_batch(
    spec: EncoderSpec, folder: Path, name: str
) -> None:
    engine = GraphEngine(spec, GraphVariant.of(name, folder), threads=spare_cores())
    clips = [clip(seed) for seed in range(5)]
    together = engine.encode(clips)
    for one, among in zip(clips, together, strict=True):
        np.testing.assert_array_equal(engine.encode([one])[0], among)
    np.testing.assert_array_equal(engine.encode(clips[::-1])[::-1], together)
    assert np.abs(together[0] - together[1]).max() > 1e-3


def test_tokens(spec: EncoderSpec, tmp_path: Path) -> None:
    tokens = replace(spec, kind="vjepa2-tokens")
    make_graphs(tmp_path, tokens, int8=False)
    got = GraphEngine(tokens, GraphVariant.of("openvino-float32", tmp_path)).encode([clip(1)])
    assert got.shape == (1, 8, 32)  # 2 steps of 2 x 2 patches
    np.testing.assert_allclose(
        got, on_host(TorchEngine.open(tokens, "cpu").encode([clip(1)])), atol=1e-4
    )
    with pytest.raises(ValueError, match=r"gives features \(8, 32\), which is no vjepa2 of 4"):
        GraphEngine(spec, GraphVariant.of("openvino-float32", tmp_path))


def test_clips_of_another_length_and_after_the_end(spec: EncoderSpec, folder: Path) -> None:
    engine = GraphEngine(spec, GraphVariant.of("openvino-float32", folder))
    with pytest.raises(ValueError, match="6 frames, not 4"):
        engine.encode([clip(1), clip(2, frames=6)])
    engine.close()
    with pytest.raises(ValueError, match="closed"):
        engine.encode([clip(1)])


@pytest.mark.parametrize("name", ["openvino-float32", "onnxruntime-float32"])
def test_the_graph_of_another_encoder(spec: EncoderSpec, folder: Path, name: str) -> None:
    for wrong in (
        replace(spec, frames=8, fps=16.0),
        replace(spec, short_side=292),
        replace(spec, dim=64),
    ):
        with pytest.raises(
            ValueError, match=r"float32\.onnx: takes pictures \(4, 32, 32, 3\)"
        ) as e:
            GraphEngine(wrong, GraphVariant.of(name, folder))
        assert "\n" not in str(e.value)


@pytest.mark.parametrize("runtime", ["openvino", "onnxruntime"])
@pytest.mark.parametrize("content", ["cut", "empty", "text", "head", "fixed"])
def test_a_file_that_is_no_encoder(
    spec: EncoderSpec, folder: Path, tmp_path: Path, runtime: str, content: str
) -> None:
    file = tmp_path / FLOAT32
    file.write_bytes(
        {
            "cut": (folder / FLOAT32).read_bytes()[:5000],
            "empty": b"",
            "text": b"float32.onnx: see attachment\n" * 50,
            "head": mean_head(np.eye(3, dtype=np.float32)),
            "fixed": mean_head(np.eye(3, dtype=np.float32), free_axes=False),
        }[content]
    )
    says = "an encoder takes pictures" if content in ("head", "fixed") else "can't open it"
    with pytest.raises(ValueError, match=rf"float32\.onnx: .*{says}") as caught:
        GraphEngine(spec, GraphVariant(runtime=runtime, precision="float32", file=file))
    assert "\n" not in str(caught.value)


def names(ways: Sequence[GraphVariant]) -> list[str]:
    return [one.name for one in ways]


def test_what_may_be_the_fastest() -> None:
    all_ways = [GraphVariant.of(way, Path("b/encoder")) for way in WAYS]
    all_here = ("openvino", "onnxruntime")
    assert names(usable_variants(all_ways, all_here, bfloat16=True)) == [
        "openvino-int8",
        "openvino-bfloat16",
        "onnxruntime-int8",
    ]
    assert names(usable_variants(all_ways, all_here, bfloat16=False)) == [
        "openvino-int8",
        "openvino-float32",
        "onnxruntime-int8",
        "onnxruntime-float32",
    ]
    whole = [way for way in all_ways if way.precision != "int8"]
    assert names(usable_variants(whole, all_here, bfloat16=True)) == ["openvino-bfloat16"]
    exact = [way for way in whole if way.precision != "bfloat16"]  # a bundle that forbids it
    assert names(usable_variants(exact, all_here, bfloat16=True)) == [
        "openvino-float32",
        "onnxruntime-float32",
    ]
    assert names(usable_variants(all_ways, ("onnxruntime",), bfloat16=True)) == [
        "onnxruntime-int8",
        "onnxruntime-float32",
    ]
    assert usable_variants(all_ways, (), bfloat16=True) == []


class Timed:
    """An engine that takes `seconds` a run, of a clock that only it moves."""

    device = "cpu"

    def __init__(self, clock: list[float], name: str, seconds: float) -> None:
        self.name = name
        self.clock, self.seconds, self.runs, self.closed = clock, seconds, 0, False

    def encode(self, clips: Sequence[Pictures]) -> NDArray[np.float32]:
        self.clock[0] += self.seconds
        self.runs += 1
        return np.zeros((len(clips), 1, 1), np.float32)

    def close(self) -> None:
        self.closed = True


def race(*seconds: float | None) -> tuple[str, dict[str, float], list[Timed]]:
    """Engines of so many seconds a run, None for one that can't be opened: who won, and all."""
    clock = [0.0]
    opened: list[Timed] = []

    def open_engine(way: GraphVariant) -> Timed:
        took = seconds[int(way.precision)]
        if took is None:
            raise ValueError(f"{way.name} can't be opened")
        opened.append(Timed(clock, way.name, took))
        return opened[-1]

    ways = [
        GraphVariant(runtime="r", precision=str(i), file=Path("x")) for i, _ in enumerate(seconds)
    ]
    best, took = fastest(ways, open_engine, [clip(0)], clock=lambda: clock[0])
    assert [one.closed for one in opened] == [one.name != best.name for one in opened]
    return best.name, took, opened


def test_the_fastest_is_taken_and_the_others_are_closed() -> None:
    best, took, opened = race(0.2, 0.1, 0.14, 0.3)
    assert best == "r-1"
    assert took == pytest.approx({"r-0": 0.2, "r-1": 0.1, "r-2": 0.14, "r-3": 0.3})
    assert [one.runs for one in opened] == [4, 4, 4, 1]  # one that can't win is not run again


def test_a_large_model_is_tried_once() -> None:
    best, took, opened = race(30.0, 1.0, 1.0)
    assert (best, list(took), opened[0].runs) == ("r-0", ["r-0"], 1)


def test_what_can_not_be_opened_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    assert race(None, 0.1)[0] == "r-1"
    assert "r-0 can't be opened" in caplog.text
    with pytest.raises(ValueError, match="r-0 can't be opened"):
        race(None, None)
    with pytest.raises(ValueError, match="nothing here runs"):
        race()


def test_one_is_chosen_here_and_told(
    spec: EncoderSpec, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    engine = open_graph_engine(spec, [GraphVariant.of(way, folder) for way in WAYS])
    assert f"V-JEPA 2 runs by {engine.name}, " in caplog.text
    assert "openvino-int8 " in caplog.text
    assert has_bfloat16() == ("openvino-bfloat16" in caplog.text)
    assert engine.encode([clip(1)]).shape == (1, 2, 32)
