"""What `models.bench` measures: each engine's way to run one batch of a case, by name.

    a case -> [setup] -> an engine's maker -> a call that runs the batch

An engine of another runtime is a line in `ENGINES`. Its maker imports what it needs, so that the
others run where that is missing; it may name its own dtype, whatever the case's is.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import VJEPA2Model

from models.bench.cases import Case
from models.bench.head import head_onnx
from models.bundle import Bundle
from models.classifier import Classifier
from models.few_shot import EmbeddingSpace
from models.heads import GlossClassifier
from models.recognizer import Recognizer
from models.schema import Clip, EncoderSpec, Frame
from models.vjepa2.encoder import VJEPA2Encoder
from models.vjepa2.graph import FLOAT32, WAYS, GraphVariant, has_bfloat16, open_graph
from models.vjepa2.model import PictureEncoder, VideoTransformer
from models.vjepa2.preprocess import resized_short_side
from models.vjepa2.runs import CapturedRuns, Runs, compile_blocks
from models.vjepa2.state_dicts import converted
from models.vjepa2.torch_engine import TorchEngine

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
_GLOSSES = 300  # of WLASL300
_TOP = 5


class Setup:
    """A case's random weights and pictures, the same for all its engines."""

    def __init__(self, case: Case, device: torch.device) -> None:
        self.case = case
        self.device = device
        self.dtype = DTYPES[case.dtype]
        short = resized_short_side(case.crop)  # as a camera's picture comes out of the decoder
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
        """Where exported graphs lie, as long as the case is measured."""
        return tempfile.TemporaryDirectory()

    def theirs(self) -> Any:
        """transformers' encoder, new, on the device, in the case's dtype."""
        with self.device:
            encoder: Any = VJEPA2Model(self.case.config).encoder
        encoder.load_state_dict(_weights(self.case.size, self.device))
        return encoder.to(self.dtype).eval().requires_grad_(False)

    def model(self) -> VideoTransformer:
        """Ours of the same weights."""
        weights = converted(_weights(self.case.size, self.device), self.case.shape)
        with self.device:
            model = VideoTransformer(self.case.shape, self.case.grid)
        model.load_state_dict(weights)
        model.to(self.dtype).eval().requires_grad_(False)
        return model


@lru_cache(maxsize=2)
def _weights(size: str, device: torch.device) -> dict[str, Tensor]:
    """Random ones as transformers makes them, kept in host memory. `device` makes them faster."""
    torch.manual_seed(0)
    with device:
        encoder: Any = VJEPA2Model(Case(size=size, frames=2, batch=1, dtype="").config).encoder
    return {name: tensor.cpu() for name, tensor in encoder.state_dict().items()}


Call = Callable[[], Any]  # runs the batch; what it queued on a GPU need not be done


def _transformers(setup: Setup) -> Call:
    model = setup.theirs()
    return lambda: model(setup.video)


def _transformers_compiled(setup: Setup) -> Call:
    model: Any = torch.compile(setup.theirs())
    return lambda: model(setup.video)


def _lean(setup: Setup) -> Call:
    model = setup.model()
    return lambda: model(setup.video)


def _lean_compiled(setup: Setup) -> Call:
    model = setup.model()
    compile_blocks(model)
    return lambda: model(setup.video)


def _torch(setup: Setup) -> Call:
    """What `TorchEngine` runs, for pictures that are on the device already: features (B, S, D)."""
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
    """Camera pictures in host memory to the five likeliest glosses, as the server does it."""
    case = setup.case
    spec = EncoderSpec(
        kind="vjepa2",
        source="random",
        revision="random",
        dim=case.shape.width,
        frames=case.frames,
        fps=8.0,
        short_side=resized_short_side(case.crop),
    )
    engine = TorchEngine(
        setup.model(),
        pooled=True,
        device=str(setup.device),
        dtype=case.dtype,
        sizes=[case.batch],
    )
    with tempfile.TemporaryDirectory() as folder:
        bundle = _random_bundle(spec, Path(folder))
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
    return lambda: [np.argsort(-one.probabilities)[:_TOP] for one in recognizer.recognise(clips)]


def _random_bundle(spec: EncoderSpec, folder: Path) -> Bundle:
    head = GlossClassifier(spec.dim, _GLOSSES).eval()
    file = folder / "head.onnx"
    file.write_bytes(head_onnx({name: value.numpy() for name, value in head.state_dict().items()}))
    return Bundle(
        path=folder,
        name="random",
        glosses=tuple(f"gloss {i}" for i in range(_GLOSSES)),
        encoder=spec,
        hop_s=0.25,
        idle=False,
        temperature=1.0,
        threshold=0.5,
        card={},
        head_path=file,
        space=EmbeddingSpace(
            id="random", dim=spec.dim, background=np.eye(2, spec.dim, dtype=np.float32)
        ),
    )


def _graph(way: str) -> Callable[[Setup], Call]:
    """The maker of an exported graph's engine: clips one by one, as `GraphEngine` has them."""

    def make(setup: Setup) -> Call:
        from models.vjepa2.export import write_encoder, write_int8
        from models.vjepa2.rounding import rounded_weights

        if setup.device.type != "cpu":
            raise ValueError("exported graphs run on a CPU")
        if way.endswith("bfloat16") and not has_bfloat16():
            raise ValueError("this processor has no bfloat16, or OpenVINO is not installed")
        graph = GraphVariant.of(way, Path(setup.folder.name))
        clips = list(setup.pictures.numpy())
        whole = graph.file.with_name(FLOAT32)
        if not graph.file.exists():
            encoder = PictureEncoder(setup.model().float(), pooled=True)
            if not whole.exists():
                write_encoder(encoder, whole)
            if graph.file != whole:
                layers = rounded_weights(encoder, clips[:1])  # of noise: only its speed is of use
                write_int8(whole, layers, graph.file, inputs=True)
        run = open_graph(graph, torch.get_num_threads())
        return lambda: torch.from_numpy(np.stack([run(clip) for clip in clips]))

    return make


ENGINES: Mapping[str, Callable[[Setup], Call]] = {
    "transformers": _transformers,
    "transformers-compiled": _transformers_compiled,
    "lean": _lean,
    "lean-compiled": _lean_compiled,
    "torch": _torch,
    "pipeline": _pipeline,
    **{way: _graph(way) for way in WAYS},
}
