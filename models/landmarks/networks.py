"""MediaPipe's networks for bodies and hands: fetched from a package index, run by OpenVINO.

    PyPI's wheel of mediapipe -> [fetch] -> cache folder -> [Network]: square picture -> numbers
    picture -> [Region.cut] -> square picture; points in it -> [Region.place] -> picture

The landmark encoder needs five small networks by Google, published under the Apache License 2.0 as
`.tflite` files inside the wheel `mediapipe` 0.10.21. pip downloads the wheel but does not install
it; its files are checked against pinned SHA-256 sums and kept in `$LIVEGLOSS_CACHE`, else in
`~/.cache/livegloss`. `python -m models.landmarks.networks` fetches them and prints their paths.
"""

from __future__ import annotations

import hashlib
import math
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from queue import SimpleQueue

import cv2
import numpy as np
import openvino as ov
from numpy.typing import NDArray
from openvino.preprocess import PrePostProcessor

from models.command_line import read_command_line
from models.files import replacing, sha256

Points = NDArray[np.float32]  # (n, 2) or (n, 3)


@dataclass(frozen=True, slots=True)
class Region:
    """A square: centre (`x`, `y`), length of a side, clockwise turn in radians.

    `flipped` mirrors its picture: with left hands flipped a network gets right hands only, and a
    mirrored video gives mirrored points.
    """

    x: float
    y: float
    side: float
    turn: float = 0.0
    flipped: bool = False

    @property
    def usable(self) -> bool:
        """False when it is too small, too large, or has a NaN or infinity."""
        return all(map(math.isfinite, (self.x, self.y, self.side, self.turn))) and (
            4.0 <= self.side <= 20000.0 and max(abs(self.x), abs(self.y)) <= 40000.0
        )

    def grown(self, scale: float, down: float = 0.0) -> Region:
        """Scaled, after a shift by `down` sides along its own y axis."""
        return replace(
            self,
            x=self.x - down * self.side * math.sin(self.turn),
            y=self.y + down * self.side * math.cos(self.turn),
            side=self.side * scale,
        )

    def _matrix(self) -> NDArray[np.float64]:
        """(2, 3) The affine map from the unit square to the picture."""
        cos, sin = math.cos(self.turn) * self.side, math.sin(self.turn) * self.side
        across = -1.0 if self.flipped else 1.0
        matrix = np.array([[cos * across, -sin, 0.0], [sin * across, cos, 0.0]])
        matrix[:, 2] = (self.x, self.y) - matrix[:, :2] @ (0.5, 0.5)
        return matrix

    def cut(self, image: NDArray[np.uint8], pixels: int, border: int) -> NDArray[np.uint8]:
        """(pixels, pixels, 3): the region of an RGB or RGBA picture; `border`: OpenCV's type."""
        matrix = self._matrix()
        step = matrix[:, :2] / pixels
        offset = matrix[:, 2] + step @ (0.5, 0.5) - 0.5  # pixel centres
        cut = cv2.warpAffine(
            image,
            np.column_stack([step, offset]),
            (pixels, pixels),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=border,
        )
        if cut.shape[2] == 4:
            cut = cv2.cvtColor(cut, cv2.COLOR_RGBA2RGB)
        return np.asarray(cut, np.uint8)

    def place(self, points: Points) -> Points:
        """Map points in units of the region's side ([0, 1] inside) to the picture.

        A third coordinate, depth, is scaled like x.
        """
        matrix = self._matrix().astype(np.float32)
        placed = np.empty_like(points, dtype=np.float32)
        placed[:, :2] = points[:, :2] @ matrix[:, :2].T + matrix[:, 2]
        placed[:, 2:] = points[:, 2:] * self.side
        return placed


def turn_of(start: Points, end: Points, target: float = math.pi / 2) -> float:
    """The turn of a region in which `end` lies at angle `target` from `start` (pi/2: above it)."""
    turn = target - math.atan2(-float(end[1] - start[1]), float(end[0] - start[0]))
    return turn - 2 * math.pi * math.floor((turn + math.pi) / (2 * math.pi))


def spanning(centre: Points, edge: Points, scale: float, target: float = math.pi / 2) -> Region:
    """The region around `centre` that reaches to `edge`, scaled, with `edge` at angle `target`."""
    reach = float(np.hypot(*(edge[:2] - centre[:2])))
    return Region(
        float(centre[0]), float(centre[1]), 2 * reach * scale, turn_of(centre, edge, target)
    )


VERSION = "0.10.21"


@dataclass(frozen=True, slots=True)
class NetworkFile:
    """A file of the wheel."""

    path: str
    sha256: str

    @property
    def name(self) -> str:
        return self.path.rsplit("/", 1)[-1]


POSE_DETECTION = NetworkFile(
    "mediapipe/modules/pose_detection/pose_detection.tflite",
    "9ba9dd3d42efaaba86b4ff0122b06f29c4122e756b329d89dca1e297fd8f866c",
)
POSE_LANDMARKS = NetworkFile(
    "mediapipe/modules/pose_landmark/pose_landmark_full.tflite",
    "e9a5c5cb17f736fafd4c2ec1da3b3d331d6edbe8a0d32395855aeb2cdfd64b9f",
)
HAND_RECROP = NetworkFile(
    "mediapipe/modules/holistic_landmark/hand_recrop.tflite",
    "67d996ce96f9d36fe17d2693022c6da93168026ab2f028f9e2365398d8ac7d5d",
)
HAND_LANDMARKS = NetworkFile(
    "mediapipe/modules/hand_landmark/hand_landmark_full.tflite",
    "11c272b891e1a99ab034208e23937a8008388cf11ed2a9d776ed3d01d0ba00e3",
)
PALM_DETECTION = NetworkFile(
    "mediapipe/modules/palm_detection/palm_detection_full.tflite",
    "1b14e9422c6ad006cde6581a46c8b90dd573c07ab7f3934b5589e7cea3f89a54",
)
NETWORK_FILES = (POSE_DETECTION, POSE_LANDMARKS, HAND_RECROP, HAND_LANDMARKS, PALM_DETECTION)


class MediapipeError(OSError):
    """The networks can't be fetched. The message is one line that says what to do."""


def fetch(
    folder: Path | None = None, download: Callable[[Path], Path] | None = None
) -> Mapping[NetworkFile, Path]:
    """The path of every network file, after fetching what is missing or damaged.

    Each call checks every SHA-256. Files appear whole, so several processes may fetch at once.
    `download` gets a folder, puts the wheel there and returns its path; None: by pip.

    Raises:
        MediapipeError: a file can't be fetched or stored, or the wheel holds another one.
    """
    if folder is None:
        cache = os.environ.get("LIVEGLOSS_CACHE") or "~/.cache/livegloss"
        folder = Path(cache).expanduser() / f"mediapipe-{VERSION}"
    paths = {file: folder / file.name for file in NETWORK_FILES}
    missing = [file for file, path in paths.items() if not _intact(path, file)]
    if not missing:
        return paths
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix="fetch-") as scratch:
            with zipfile.ZipFile((download or _download_wheel)(Path(scratch))) as wheel:
                for file in missing:
                    content = wheel.read(file.path)
                    if hashlib.sha256(content).hexdigest() != file.sha256:
                        raise MediapipeError(
                            f"{file.name} in the downloaded mediapipe {VERSION} is not the file "
                            "we know (wrong SHA-256): check the package index that pip uses"
                        )
                    with replacing(paths[file]) as stream:
                        stream.write(content)
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


def _intact(path: Path, file: NetworkFile) -> bool:
    try:
        return sha256(path) == file.sha256
    except OSError:
        return False


def _download_wheel(folder: Path) -> Path:
    """Download the wheel into `folder` with pip and return its path.

    The wheels of all platforms hold the same networks, so the same one is downloaded everywhere.

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


class Network:
    """One `.tflite` network, run on the CPU.

    Takes RGB pictures of `pixels` x `pixels`, uint8; scaling them to the range that the network was
    trained on, `low` to `high`, is part of the compiled graph. Computes in bfloat16 where the
    processor has it (1.6 times as fast; moves a landmark by less than its jitter), else float32.
    In 8 bits it was 3 to 7 % faster and moved landmarks twice as far, so it stays in bfloat16.

    `threads` callers may run it at once, each on its own thread.
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
        # With these outputs only, nothing that serves the others is computed.
        model = ov.Model([whole.output(name) for name in outputs], whole.get_parameters())
        self.pixels = int(model.input().shape[1])
        prepare = PrePostProcessor(model)
        prepare.input().tensor().set_element_type(ov.Type.u8)
        steps = prepare.input().preprocess().convert_element_type(ov.Type.f32)
        steps.scale(255.0 / (high - low))
        if low:
            steps.mean(-low)
        prepared = prepare.build()
        self._free: SimpleQueue[ov.InferRequest] = SimpleQueue()
        for _ in range(threads):  # a network with one stream computes on the caller's thread
            compiled = core.compile_model(
                prepared,
                "CPU",
                {
                    "PERFORMANCE_HINT": "LATENCY",
                    "INFERENCE_NUM_THREADS": 1,
                    "NUM_STREAMS": 1,
                    # Else the caller is tied to the first core, as in every other process.
                    "ENABLE_CPU_PINNING": False,
                },
            )
            self._free.put(compiled.create_infer_request())
        self._outputs = len(outputs)

    def __call__(self, picture: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        """The outputs for `picture` (pixels, pixels, 3), in the order of the constructor's."""
        request = self._free.get()
        try:
            request.infer([picture[None]], share_inputs=True)
            return [request.get_output_tensor(n).data[0].copy() for n in range(self._outputs)]
        finally:
            self._free.put(request)


def sigmoid(values: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(1.0 / (1.0 + np.exp(-np.clip(values, -60.0, 60.0))), np.float32)


@dataclass(frozen=True)
class FetchSettings:
    """The command has no options."""


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status 1 when the networks can't be fetched."""
    read_command_line(
        FetchSettings, argv, prog="python -m models.landmarks.networks", description=__doc__
    )
    try:
        paths = fetch()
    except MediapipeError as exc:
        print(f"error: {exc}", file=sys.stderr)
        return 1
    print(*paths.values(), sep="\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
