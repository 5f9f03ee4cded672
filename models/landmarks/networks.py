"""MediaPipe's networks for hands and bodies, taken out of its wheel: package index -> cache folder.

The landmark encoder needs four small networks by Google, published under the Apache License 2.0 as
`.tflite` files inside the PyPI wheel `mediapipe` 0.10.21. The wheel is downloaded with pip, never
installed; its members are held against pinned SHA-256 sums and kept in `$LIVEGLOSS_CACHE`, else in
`~/.cache/livegloss`. `python -m models.landmarks.networks` fetches them and prints where they are.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import openvino as ov
from numpy.typing import NDArray
from openvino.preprocess import PrePostProcessor

VERSION = "0.10.21"
LICENSE = "Apache-2.0"


@dataclass(frozen=True, slots=True)
class Member:
    """A file of the wheel that we use."""

    path: str
    sha256: str

    @property
    def name(self) -> str:
        return self.path.rsplit("/", 1)[-1]


POSE_DETECTION = Member(
    "mediapipe/modules/pose_detection/pose_detection.tflite",
    "9ba9dd3d42efaaba86b4ff0122b06f29c4122e756b329d89dca1e297fd8f866c",
)
POSE_LANDMARKS = Member(
    "mediapipe/modules/pose_landmark/pose_landmark_full.tflite",
    "e9a5c5cb17f736fafd4c2ec1da3b3d331d6edbe8a0d32395855aeb2cdfd64b9f",
)
HAND_RECROP = Member(
    "mediapipe/modules/holistic_landmark/hand_recrop.tflite",
    "67d996ce96f9d36fe17d2693022c6da93168026ab2f028f9e2365398d8ac7d5d",
)
HAND_LANDMARKS = Member(
    "mediapipe/modules/hand_landmark/hand_landmark_full.tflite",
    "11c272b891e1a99ab034208e23937a8008388cf11ed2a9d776ed3d01d0ba00e3",
)
PALM_DETECTION = Member(
    "mediapipe/modules/palm_detection/palm_detection_full.tflite",
    "1b14e9422c6ad006cde6581a46c8b90dd573c07ab7f3934b5589e7cea3f89a54",
)
MEMBERS = (POSE_DETECTION, POSE_LANDMARKS, HAND_RECROP, HAND_LANDMARKS, PALM_DETECTION)


class MediapipeError(OSError):
    """The networks can't be had. The message is one line that says what to do."""


def cache_dir() -> Path:
    """Where downloads are kept: `$LIVEGLOSS_CACHE`, else `~/.cache/livegloss`."""
    named = os.environ.get("LIVEGLOSS_CACHE")
    return Path(named).expanduser() if named else Path.home() / ".cache" / "livegloss"


def download_wheel(folder: Path) -> Path:
    """Download the wheel into `folder` and return its path.

    Any platform's wheel holds the same networks, so the same one is asked for everywhere.

    Raises:
        MediapipeError: no network, no pip, or the index does not have it.
    """
    # fmt: off
    command = [
        sys.executable, "-m", "pip", "download", f"mediapipe=={VERSION}", "--no-deps", "--quiet",
        "--only-binary=:all:", "--platform", "manylinux_2_28_x86_64", "--implementation", "cp",
        "--python-version", "3.11", "--disable-pip-version-check", "--no-input",
        "--dest", str(folder),
    ]
    # fmt: on
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    except subprocess.TimeoutExpired as exc:
        raise MediapipeError(
            f"downloading mediapipe {VERSION} took more than 15 minutes: "
            "run `python -m models.landmarks.networks` again on a better connection"
        ) from exc
    wheels = sorted(folder.glob("mediapipe-*.whl"))
    if done.returncode != 0 or not wheels:
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        reason = lines[-1].removeprefix("ERROR:").strip() if lines else "pip gave no reason"
        raise MediapipeError(
            f"can't download mediapipe {VERSION} with pip ({reason}): "
            "go online once and run `python -m models.landmarks.networks`"
        )
    return wheels[0]


def fetch(
    folder: Path | None = None, download: Callable[[Path], Path] = download_wheel
) -> Mapping[Member, Path]:
    """Make sure of all networks; returns where each lies.

    Every file's SHA-256 is checked at each call; what is missing or damaged is fetched again. Files
    appear whole (written aside, then renamed), so several processes may fetch at once.

    Raises:
        MediapipeError: they can't be fetched or stored, or the wheel holds something else.
    """
    folder = folder or cache_dir() / f"mediapipe-{VERSION}"
    paths = {member: folder / member.name for member in MEMBERS}
    missing = [member for member in MEMBERS if not _intact(paths[member], member)]
    if not missing:
        return paths
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix="fetch-") as aside:
            with zipfile.ZipFile(download(Path(aside))) as wheel:
                for member in missing:
                    content = wheel.read(member.path)
                    if hashlib.sha256(content).hexdigest() != member.sha256:
                        raise MediapipeError(
                            f"{member.name} in the downloaded mediapipe {VERSION} is not the file "
                            "we know (wrong SHA-256): check the package index that pip uses"
                        )
                    written = Path(aside) / member.name
                    written.write_bytes(content)
                    os.replace(written, paths[member])
    except MediapipeError:
        raise
    except (KeyError, zipfile.BadZipFile) as exc:
        raise MediapipeError(
            f"the downloaded mediapipe {VERSION} wheel is broken ({exc}): "
            "run `python -m models.landmarks.networks` again"
        ) from exc
    except OSError as exc:
        raise MediapipeError(
            f"can't store MediaPipe's networks in {folder} ({exc.strerror or exc}): "
            "set LIVEGLOSS_CACHE to a folder that can be written"
        ) from exc
    return paths


def _intact(path: Path, member: Member) -> bool:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest() == member.sha256
    except OSError:
        return False


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m models.landmarks.networks", description=__doc__
    )
    parser.parse_args(argv)
    try:
        paths = fetch()
    except MediapipeError as exc:
        print(f"error: {exc}", file=sys.stderr)
        return 1
    for path in paths.values():
        print(path)
    return 0


# MERGED from models.landmarks.network: One small neural network on the CPU: a square picture in,
# arrays of numbers out (OpenVINO).


class Network:
    """A `.tflite` file at work.

    Takes uint8 RGB pictures of `pixels` x `pixels`; scaling to the range that the network was
    trained on, `low` to `high`, is part of the compiled graph. Computes in bfloat16 where the
    processor has it (1.6 times as fast; moves a landmark by less than its jitter), else float32.
    """

    def __init__(
        self,
        path: Path,
        outputs: Sequence[str],
        low: float = 0.0,
        high: float = 1.0,
        threads: int = 1,
    ) -> None:
        core = ov.Core()
        whole = core.read_model(path)
        # Only the outputs that are asked for: what serves others alone is not computed.
        model = ov.Model([whole.output(name) for name in outputs], whole.get_parameters())
        self.pixels = int(model.input().shape[1])
        prepare = PrePostProcessor(model)
        prepare.input().tensor().set_element_type(ov.Type.u8)
        steps = prepare.input().preprocess().convert_element_type(ov.Type.f32)
        steps.scale(255.0 / (high - low))
        if low:
            steps.mean(-low)
        compiled = core.compile_model(
            prepare.build(),
            "CPU",
            {
                "PERFORMANCE_HINT": "LATENCY",
                "INFERENCE_NUM_THREADS": threads,
                "NUM_STREAMS": 1,
                # Else the calling thread is tied to the first core, as in every other process.
                "ENABLE_CPU_PINNING": False,
            },
        )
        self._request = compiled.create_infer_request()
        self._outputs = len(outputs)

    def __call__(self, picture: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        """`picture` (pixels, pixels, 3) -> the outputs, in the order asked for."""
        self._request.infer([picture[None]], share_inputs=True)
        return [
            self._request.get_output_tensor(index).data[0].copy() for index in range(self._outputs)
        ]


def sigmoid(values: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(1.0 / (1.0 + np.exp(-np.clip(values, -60.0, 60.0))), np.float32)


if __name__ == "__main__":
    raise SystemExit(main())
