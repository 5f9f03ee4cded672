"""The engines that `models.bench` measures, by name: how each runs one batch of a case.

    a case -> [setup] -> an entry of `ENGINES` -> a call that runs the batch

An entry imports the packages that only it needs, so that the others run where those are missing.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import VJEPA2Config, VJEPA2Model

from models.bench.cases import SIZES, Case
from models.bundle import open_bundle
from models.classifier import Classifier
from models.few_shot import EmbeddingSpace
from models.heads import GlossClassifier, HeadOutput
from models.onnx_file import write_int8, write_onnx
from models.recognizer import Recognizer
from models.schema import Clip, EncoderSpec, Frame
from models.vjepa2.encoder import VJEPA2Encoder
from models.vjepa2.graph_engine import FLOAT32, WAYS, GraphVariant, has_bfloat16, open_graph
from models.vjepa2.model import PictureEncoder, Shape, VideoTransformer
from models.vjepa2.preprocess import resized_short_side
from models.vjepa2.runs import CapturedRuns, Runs, compile_blocks
from models.vjepa2.state_dicts import converted
from models.vjepa2.torch_engine import DTYPES, TorchEngine

_GLOSSES = 300  # of WLASL300
_TOP = 5


class Setup:
    """A case's random weights and pictures, the same for all its engines."""

    def __init__(self, case: Case, device: torch.device) -> None:
        self.case = case
        self.device = device
        self.dtype = DTYPES[case.dtype]
        self.config = _config(case.size, case.frames)
        self.shape = Shape.of(self.config)
        short = resized_short_side(case.crop)  # the size that the video decoder scales to
        size = case.batch, case.frames, short, short * 4 // 3, 3
        self.camera = np.random.default_rng(0).integers(0, 256, size, np.uint8)  # B, T, H, W, C

    @cached_property
    def pictures(self) -> Tensor:
        """(B, T, crop, crop, 3) uint8, on the device."""
        crop = self.case.crop
        return torch.from_numpy(self.camera[:, :, :crop, :crop].copy()).to(self.device)

    @cached_property
    def video(self) -> Tensor:
        """(B, T, C, crop, crop) `pictures` as an encoder's input, in the case's dtype."""
        return ((self.pictures.to(self.dtype) - 114) / 57).permute(0, 1, 4, 2, 3).contiguous()

    @cached_property
    def folder(self) -> tempfile.TemporaryDirectory[str]:
        """For exported graphs, as long as the case is measured."""
        return tempfile.TemporaryDirectory()

    def model(self) -> VideoTransformer:
        """Our encoder with the same weights."""
        weights = converted(_weights(self.case.size, self.device), self.shape)
        with self.device:
            model = VideoTransformer(self.shape, self.case.grid)
        model.load_state_dict(weights)
        return model.to(self.dtype).eval().requires_grad_(False)


def _config(size: str, frames: int) -> VJEPA2Config:
    width, depth, heads, ratio, crop = SIZES[size]
    return VJEPA2Config(
        hidden_size=width,
        num_hidden_layers=depth,
        num_attention_heads=heads,
        mlp_ratio=ratio,
        crop_size=crop,
        frames_per_clip=frames,
        pred_num_hidden_layers=1,
    )


@lru_cache(maxsize=2)
def _weights(size: str, device: torch.device) -> dict[str, Tensor]:
    """Random weights of transformers, made on `device`, which is faster, and kept on the host."""
    torch.manual_seed(0)
    with device:
        encoder: Any = VJEPA2Model(_config(size, 2)).encoder
    return {name: tensor.cpu() for name, tensor in encoder.state_dict().items()}


Call = Callable[[], Any]  # runs the batch; on a GPU it may return before the work is done


def _transformers(setup: Setup, *, compiled: bool = False) -> Call:
    """The class of transformers."""
    with setup.device:
        encoder: Any = VJEPA2Model(setup.config).encoder
    encoder.load_state_dict(_weights(setup.case.size, setup.device))
    encoder = encoder.to(setup.dtype).eval().requires_grad_(False)
    model = torch.compile(encoder) if compiled else encoder
    return lambda: model(setup.video)


def _lean(setup: Setup, *, compiled: bool = False) -> Call:
    model = setup.model()
    if compiled:
        compile_blocks(model)
    return lambda: model(setup.video)


def _torch(setup: Setup) -> Call:
    """The runs of `TorchEngine`, for pictures that are on the device already."""
    encoder = PictureEncoder(setup.model(), pooled=True).to(setup.device)
    sizes = [setup.case.batch]
    if setup.device.type == "cuda":
        stream = torch.cuda.Stream(setup.device)  # type: ignore[no-untyped-call]
        runs: Runs = CapturedRuns(encoder, sizes, setup.device, stream)
    else:
        runs = Runs(encoder, sizes, setup.device)
    runs.pictures.copy_(setup.pictures)
    return lambda: runs.run(setup.case.batch)


def _pipeline(setup: Setup) -> Call:
    """Camera pictures in host memory -> the five likeliest glosses, as the server runs it."""
    case = setup.case
    spec = EncoderSpec(
        kind="vjepa2",
        source="random",
        revision="random",
        dim=setup.shape.width,
        frames=case.frames,
        fps=8.0,
        short_side=resized_short_side(case.crop),
    )
    device, sizes = str(setup.device), [case.batch]
    engine = TorchEngine(setup.model(), pooled=True, device=device, dtype=case.dtype, sizes=sizes)
    example = {"features": torch.zeros(2, 3, spec.dim), "mask": torch.ones(2, 3, dtype=torch.bool)}
    random_head = GlossClassifier(spec.dim, _GLOSSES)
    background = np.eye(2, spec.dim, dtype=np.float32)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "head.onnx")
        write_onnx(random_head, example, HeadOutput._fields, {0: "B", 1: "T"}, file)
        bundle = replace(
            open_bundle("builtin"),
            glosses=tuple(f"gloss {i}" for i in range(_GLOSSES)),
            encoder=spec,
            idle=False,
            head_path=file,
            space=EmbeddingSpace(id="random", dim=spec.dim, background=background),
        )
        head = Classifier(bundle, engine.device)
    recognizer = Recognizer(bundle, VJEPA2Encoder(spec, engine), head)
    clips = [
        Clip(
            stream=str(i),
            frames=tuple(Frame(image=image, media_s=j / 8) for j, image in enumerate(images)),
            start_s=0.0,
            end_s=case.frames / 8,
        )
        for i, images in enumerate(setup.camera)
    ]
    return lambda: [np.argsort(-p.probabilities)[:_TOP] for p in recognizer.recognise(clips)]


def _graph(setup: Setup, name: str) -> Call:
    """An exported graph: it runs clips one by one, as `GraphEngine` does."""
    if setup.device.type != "cpu":
        raise ValueError("exported graphs run on a CPU")
    if name.endswith("bfloat16") and not has_bfloat16():
        raise ValueError("this processor has no bfloat16, or OpenVINO is not installed")
    folder = Path(setup.folder.name)
    variant = GraphVariant.of(name, folder)
    if not (folder / FLOAT32).exists():
        PictureEncoder(setup.model().float(), pooled=True).export(folder / FLOAT32)
    if not variant.file.exists():
        write_int8(folder / FLOAT32, variant.file)
    graph = open_graph(variant, torch.get_num_threads())
    clips = list(setup.pictures.numpy())
    return lambda: torch.from_numpy(np.stack([graph(clip) for clip in clips]))


ENGINES: Mapping[str, Callable[[Setup], Call]] = {
    "transformers": _transformers,
    "transformers-compiled": partial(_transformers, compiled=True),
    "lean": _lean,
    "lean-compiled": partial(_lean, compiled=True),
    "torch": _torch,
    "pipeline": _pipeline,
    **{name: partial(_graph, name=name) for name in WAYS},
}
