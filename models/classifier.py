"""Runs a bundle's head by ONNX Runtime: features in, probabilities out. No torch.

    encoder -> features -> [classifier] -> probabilities, attention, embeddings -> recognizer

An exported head takes `features` (B, T, D) float32 and `mask` (B, T) bool, true for real steps. It
returns `logits` (B, K), `attention` (B, T) and, except for old ones, `embedding` (B, E), unit rows.
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

_THREADS = 2  # a head is small: more threads cost more than they gain, and the encoder needs them


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Classified:
    """The head's output for a batch."""

    probabilities: NDArray[np.float32]  # (B, K), rows sum to 1
    attention: list[NDArray[np.float32]]  # (T,) for each clip, sums to 1
    embeddings: NDArray[np.float32] | None  # (B, E) unit rows; None: the head has no such output


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
        outputs = {output.name for output in self._session.get_outputs()}
        self._outputs = [n for n in ("logits", "attention", "embedding") if n in outputs]

    @property
    def device(self) -> str:
        """ "cuda:N" or "cpu": where the head really runs."""
        cuda = self._session.get_provider_options().get("CUDAExecutionProvider")
        return f"cuda:{cuda['device_id']}" if cuda else "cpu"

    @property
    def has_embeddings(self) -> bool:
        return "embedding" in self._outputs

    def classify(self, embeddings: Sequence[Embedding]) -> Classified:
        """Classify clips of any lengths, in order: padding the shorter ones changes nothing.

        Raises:
            ValueError: an embedding is not (T, D) with T >= 1.
        """
        if not embeddings:
            raise ValueError("there is no clip to classify")
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
        outputs = self._session.run(self._outputs, {"features": features, "mask": mask})
        return self._classified(outputs, lengths)

    def classify_on_device(self, features: Features) -> Classified:
        """Classify clips of `features` (B, T, D), which are on our device and stay there.

        Raises:
            ValueError: they are of another shape.
        """
        if len(features.shape) != 3 or min(features.shape) < 1 or features.shape[2] != self._dim:
            shape = tuple(features.shape)
            raise ValueError(f"features have shape {shape}, the head takes (B, T, {self._dim})")
        count, length = features.shape[:2]
        binding = self._session.io_binding()
        # ONNX Runtime reads the features on a CUDA stream of its own and waits for no other: they
        # must be complete, which `Features` promises. Its run ends with the copy of the outputs to
        # the host, where they are bound (onnxruntime.ai, I/O Binding), so the features may be freed
        # or overwritten after it.
        binding.bind_ortvalue_input("features", _ort_value(features))
        binding.bind_cpu_input("mask", np.ones((count, length), np.bool_))
        for name in self._outputs:
            binding.bind_output(name)
        self._session.run_with_iobinding(binding)
        return self._classified(binding.copy_outputs_to_cpu(), [length] * count)

    def _classified(
        self, outputs: Sequence[NDArray[np.float32]], lengths: Sequence[int]
    ) -> Classified:
        logits, attention, *embedding = outputs
        return Classified(
            probabilities=softmax(logits, self._temperature),
            attention=[a[:n] for a, n in zip(attention, lengths, strict=True)],
            embeddings=embedding[0] if embedding else None,
        )


def softmax(logits: NDArray[np.float32], temperature: float = 1.0) -> NDArray[np.float32]:
    """Probabilities (…, K) of `logits` (…, K) divided by `temperature`."""
    scaled = logits.astype(np.float64) / temperature
    scaled -= scaled.max(axis=-1, keepdims=True)
    powers = np.exp(scaled)
    result: NDArray[np.float32] = (powers / powers.sum(axis=-1, keepdims=True)).astype(np.float32)
    return result


def _ort_value(features: Features) -> ort.OrtValue:
    """`features` as ONNX Runtime takes them, in the memory where they are."""
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
    options.log_severity_level = 4  # nothing: errors are raised, and hold names of the file's
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
        return ["CPUExecutionProvider"]  # auto too: a caller with features on a GPU names it
    if "CUDAExecutionProvider" not in ort.get_available_providers():
        return ["CPUExecutionProvider"]
    # No TF32: a head is small, and its output shall not depend on the machine.
    cuda = ("CUDAExecutionProvider", {"device_id": int(index or 0), "use_tf32": 0})
    return [cuda, "CPUExecutionProvider"]


def _check_fits(session: ort.InferenceSession, bundle: Bundle) -> None:
    """Raise BundleError unless the head's inputs and outputs are those of the card."""
    file = bundle.head_path
    inputs = {port.name: port for port in session.get_inputs()}
    outputs = {port.name: port for port in session.get_outputs()}
    if set(inputs) != {"features", "mask"} or not {"logits", "attention"} <= set(outputs):
        raise BundleError(
            f"{file}: takes {sorted(inputs)} and returns {sorted(outputs)}; "
            "a head takes features and mask and returns logits and attention"
        )
    if inputs["features"].type != "tensor(float)" or inputs["mask"].type != "tensor(bool)":
        raise BundleError(f"{file}: features must be float32 and mask bool")
    dim, shape = bundle.encoder.dim, inputs["features"].shape
    if len(shape) != 3 or shape[2] != dim or any(isinstance(axis, int) for axis in shape[:2]):
        raise BundleError(f"{file}: features are {shape}, not (B, T, {dim}) with B and T free")
    size = outputs["embedding"].shape[-1] if "embedding" in outputs else None
    if len(bundle.space.background) and size != bundle.space.dim:
        raise BundleError(
            f"{file}: embeddings have {size} numbers, {BACKGROUND} has {bundle.space.dim}"
        )
    classes, shape = len(bundle.glosses) + bundle.idle, outputs["logits"].shape
    if len(shape) != 2 or shape[1] != classes:
        raise BundleError(f"{file}: logits are {shape}, but the card has {classes} classes")
