"""The head at work: embeddings in, probabilities out, by ONNX Runtime. No torch.

    [recognizer] -> encoder -> [classifier] -> probabilities and attention

An exported head takes `features` (B, T, D) float32 and `mask` (B, T) bool, true for real steps, and
gives `logits` (B, K) and `attention` (B, T); heads of today `embedding` (B, E) too, unit rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from models.bundle import Bundle, BundleError
from models.card import BACKGROUND
from models.schema import Embedding, Features

_THREADS = 2  # a head is small: more threads cost more than they give, and the encoder wants them


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Classified:
    """What the head says of a batch."""

    probabilities: NDArray[np.float32]  # (B, K), rows sum to 1
    attention: list[NDArray[np.float32]]  # (T,) for each clip, sums to 1
    embeddings: NDArray[np.float32] | None  # (B, E) unit rows; None: the head gives none


class Classifier:
    """An open head. Called from one thread at a time."""

    def __init__(self, bundle: Bundle, device: str = "auto") -> None:
        """Open `bundle`'s head on `device`: "auto" (the CPU), "cpu", "cuda" or "cuda:N".

        Raises:
            BundleError: the head does not load, or does not fit the card.
            ValueError: no such device. Where ONNX Runtime has no CUDA the head runs on the CPU.
        """
        self._temperature = bundle.temperature
        self._dim = bundle.encoder.dim
        self._session = _open_session(bundle, device)
        _check_fits(self._session, bundle)
        gives = {output.name for output in self._session.get_outputs()}
        self._wanted = [n for n in ("logits", "attention", "embedding") if n in gives]

    @property
    def device(self) -> str:
        """ "cuda:N" or "cpu": where the head really runs."""
        cuda = self._session.get_provider_options().get("CUDAExecutionProvider")
        return f"cuda:{cuda['device_id']}" if cuda else "cpu"

    @property
    def gives_embeddings(self) -> bool:
        return "embedding" in self._wanted

    def classify(self, embeddings: Sequence[Embedding]) -> Classified:
        """Answer each clip. They may differ in length: shorter ones are padded, which changes
        nothing.

        Raises:
            ValueError: an embedding is not (T, D) with T >= 1.
        """
        if not embeddings:
            raise ValueError("nothing to classify")
        for embedding in embeddings:
            shape = embedding.features.shape
            if len(shape) != 2 or shape[0] < 1 or shape[1] != self._dim:
                raise ValueError(f"embedding has shape {shape}, the head takes (T, {self._dim})")
        lengths = [len(e.features) for e in embeddings]
        features = np.zeros((len(embeddings), max(lengths), self._dim), dtype=np.float32)  # B, T, D
        mask = np.zeros(features.shape[:2], dtype=np.bool_)  # B, T
        for row, (embedding, length) in enumerate(zip(embeddings, lengths, strict=True)):
            features[row, :length] = embedding.features
            mask[row, :length] = True
        return self._classified(
            self._session.run(self._wanted, {"features": features, "mask": mask}), lengths
        )

    def classify_on_device(self, features: Features) -> Classified:
        """Answer each clip of `features` (B, T, D), which are on our device and stay there.

        Raises:
            ValueError: they are of another shape.
        """
        if len(features.shape) != 3 or min(features.shape) < 1 or features.shape[2] != self._dim:
            shape = tuple(features.shape)
            raise ValueError(f"features have shape {shape}, the head takes (B, T, {self._dim})")
        count, length = features.shape[:2]
        binding = self._session.io_binding()
        # ONNX Runtime reads the features on a stream of its own and waits for nobody else's: they
        # must be whole, which `Features` promises. The last step of its run brings the answers to
        # the host, where they are bound (onnxruntime.ai, I/O Binding), so after it the features
        # may be freed or written over.
        binding.bind_ortvalue_input("features", _value(features))
        binding.bind_cpu_input("mask", np.ones((count, length), np.bool_))
        for name in self._wanted:
            binding.bind_output(name)
        self._session.run_with_iobinding(binding)
        return self._classified(binding.copy_outputs_to_cpu(), [length] * count)

    def _classified(
        self, answers: Sequence[NDArray[np.float32]], lengths: Sequence[int]
    ) -> Classified:
        logits, attention, *more = answers
        return Classified(
            probabilities=softmax(logits, self._temperature),
            attention=[a[:n] for a, n in zip(attention, lengths, strict=True)],
            embeddings=more[0] if more else None,
        )


def softmax(logits: NDArray[np.float32], temperature: float = 1.0) -> NDArray[np.float32]:
    """Probabilities (…, K) of `logits` (…, K) divided by `temperature`."""
    scaled = logits.astype(np.float64) / temperature
    scaled -= scaled.max(axis=-1, keepdims=True)
    powers = np.exp(scaled)
    result: NDArray[np.float32] = (powers / powers.sum(axis=-1, keepdims=True)).astype(np.float32)
    return result


def _value(features: Features) -> ort.OrtValue:
    """`features` for ONNX Runtime, in the memory where they are."""
    if isinstance(features, np.ndarray):
        return ort.OrtValue.ortvalue_from_numpy(features)
    return ort.OrtValue.from_dlpack(features)


def _open_session(bundle: Bundle, device: str) -> ort.InferenceSession:
    if bundle.head_path is None:
        raise BundleError(f"{bundle.path}: has no trained head")
    options = ort.SessionOptions()
    options.intra_op_num_threads = _THREADS
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3  # errors; ours say the rest
    try:
        return ort.InferenceSession(str(bundle.head_path), options, providers=_providers(device))
    except Exception as exc:  # ONNX Runtime's errors share no public base but Exception
        raise BundleError(f"{bundle.head_path}: ONNX Runtime can't load it: {exc}") from exc


def _providers(device: str) -> list[Any]:
    """ONNX Runtime's providers for a device, the best first."""
    kind, _, index = device.partition(":")
    if kind not in ("auto", "cpu", "cuda") or (index and (kind != "cuda" or not index.isdigit())):
        raise ValueError(f"no device {device!r}; give auto, cpu, cuda or cuda:N")
    if kind != "cuda":
        return ["CPUExecutionProvider"]  # auto too: who has features on a GPU names it
    if "CUDAExecutionProvider" not in ort.get_available_providers():
        return ["CPUExecutionProvider"]
    # No TF32: a head is small, and its answers shall not depend on the machine.
    cuda = ("CUDAExecutionProvider", {"device_id": int(index or 0), "use_tf32": 0})
    return [cuda, "CPUExecutionProvider"]


def _check_fits(session: ort.InferenceSession, bundle: Bundle) -> None:
    """A head takes and gives what the card says, or the bundle is refused."""
    file = bundle.head_path
    takes = {i.name: i for i in session.get_inputs()}
    gives = {o.name: o for o in session.get_outputs()}
    if set(takes) != {"features", "mask"} or not {"logits", "attention"} <= set(gives):
        raise BundleError(
            f"{file}: takes {sorted(takes)} and gives {sorted(gives)}; "
            "a head takes features and mask and gives logits and attention"
        )
    if takes["features"].type != "tensor(float)" or takes["mask"].type != "tensor(bool)":
        raise BundleError(f"{file}: features must be float32 and mask bool")
    dim = bundle.encoder.dim
    shape = takes["features"].shape
    if len(shape) != 3 or shape[2] != dim or any(isinstance(axis, int) for axis in shape[:2]):
        raise BundleError(f"{file}: features are {shape}, not (B, T, {dim}) with B and T free")
    has = gives["embedding"].shape[-1] if "embedding" in gives else None
    if len(bundle.space.background) and has != bundle.space.dim:
        raise BundleError(
            f"{file}: embeddings have {has} numbers, {BACKGROUND} has {bundle.space.dim}"
        )
    classes = len(bundle.glosses) + bundle.idle
    if len(gives["logits"].shape) != 2 or gives["logits"].shape[1] != classes:
        got = gives["logits"].shape
        raise BundleError(f"{file}: logits are {got}, but the card has {classes} classes")
