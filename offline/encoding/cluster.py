"""Encodes videos on a Ray cluster, where one machine is not enough: tasks in, outcomes out.

    tasks -> Ray Data: decode, on any CPU -> a pool of encoders, one per GPU -> stored here

The stages are those of `run`, and so are the results, checksum for checksum. Only this process
stores. The nodes must have livegloss installed and see the videos and the checkpoint under the same
paths as this machine; the output folder is this machine's alone.

Tasks without an outcome when all others are done, such as those of a lost node, run once more until
a round brings nothing: what has an outcome is never encoded again, and a video that kills its
worker is reported in the end.
"""

from __future__ import annotations

import logging
import pickle
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from models.faults import OutOfMemory
from models.schema import Encoder
from offline.encoding.embed import (
    DecodedWindows,
    EncodedVideo,
    EncodeTask,
    decode_windows,
    encode_whole_video,
    encode_windows,
    row_per_frame,
)
from offline.encoding.run import HALVE_BATCH, EncoderFactory
from offline.encoding.tasks import EncodeOutcome, store

_LOCAL = "local"  # a cluster of this machine alone, on its loopback, for as long as the run takes
_BLOCK = 8  # videos that a Ray task decodes: each task costs the driver milliseconds
_COLUMN = "pickled"  # one object per row


class Cluster:
    """A connection to a Ray cluster; a context manager, once in a process.

    Raises:
        ValueError: Ray is not installed.
        OSError: there is no such cluster.
    """

    def __init__(self, address: str) -> None:
        try:
            import ray.data
        except ModuleNotFoundError as exc:
            raise ValueError('--ray needs Ray: pip install "livegloss[cluster]"') from exc
        self._ray: Any = ray
        quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
        if address == _LOCAL:
            quiet |= {"include_dashboard": False, "_node_ip_address": "127.0.0.1"}
        try:
            ray.init(address, **quiet)  # "local" never joins a cluster that happens to run here
        except (OSError, RuntimeError, ValueError) as exc:
            raise OSError(f"--ray {address}: no cluster there: {_line(exc)}") from exc
        resources = self._ray.cluster_resources()
        self.gpus = int(resources.get("GPU", 0))
        self.cpus = int(resources.get("CPU", 1))
        self.nodes = sum(node["Alive"] for node in self._ray.nodes())
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.max_errored_blocks = -1  # their tasks run once more
        logging.getLogger("ray.data").setLevel(logging.CRITICAL)
        # Of 2.60: by 2.64 retries must be set in another way, which is not there yet.
        warnings.filterwarnings("ignore", "`ray_remote_args` is deprecated")

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *exc: object) -> None:
        self._ray.shutdown()

    def encode(
        self, tasks: Sequence[EncodeTask], out: Path, factory: EncoderFactory, encoders: int | None
    ) -> Iterator[EncodeOutcome]:
        """Encode `tasks`, in whatever order they end.

        Args:
            encoders: how many; None: one per GPU; without GPUs one per node, or one per CPU for
                encoders of whole videos.

        Raises:
            OSError: an encoder can't be opened or failed, the cluster is gone, or the disk is full.
        """
        left = {task.video.video_id: task for task in tasks}
        block = max(1, min(_BLOCK, len(tasks) // (4 * self.cpus)))
        while left:
            before, problem = len(left), ""
            try:
                for encoded in self._round(list(left.values()), factory, encoders, block):
                    if isinstance(encoded, str):
                        raise OSError(f"an encoder on the cluster failed: {encoded}")
                    if left.pop(encoded.video.video_id, None) is not None:
                        yield store(encoded, out, factory.spec)
            except self._ray.exceptions.RayError as exc:
                problem = _line(exc)
            if len(left) == before:
                if problem:
                    raise OSError(f"the cluster does not go on: {problem}")
                break
            block = 1  # so that one video that kills its worker takes no other with it
        for task in left.values():
            yield EncodeOutcome(video=task.video, error="its worker died each time it was tried")

    def _round(
        self, tasks: Sequence[EncodeTask], factory: EncoderFactory, encoders: int | None, block: int
    ) -> Iterator[EncodedVideo | str]:
        data = self._ray.data.from_items(
            [{_COLUMN: pickle.dumps(task)} for task in tasks],
            override_num_blocks=-(-len(tasks) // block),
        )
        gpu = self.gpus and factory.device != "cpu"
        whole = row_per_frame(factory.spec)
        if whole:
            videos, count = 1, self.cpus
        else:
            data = data.map_batches(
                _decode, fn_args=(factory,), batch_size=1, batch_format="pyarrow", max_retries=1
            )
            videos = factory.videos_per_call(max(task.clips for task in tasks))
            count = self.gpus if gpu else self.nodes
        data = data.map_batches(
            _EncoderStage,
            fn_constructor_args=(factory,),
            batch_size=videos,
            batch_format="pyarrow",
            compute=self._ray.data.ActorPoolStrategy(
                size=encoders or count, max_tasks_in_flight_per_actor=2
            ),
            num_cpus=int(whole),
            num_gpus=1 if gpu else 0,
            max_restarts=-1,
            max_task_retries=0,
        )
        for table in data.iter_batches(batch_size=None, batch_format="pyarrow"):
            yield from _objects(table)


def _decode(table: Any, factory: EncoderFactory) -> Any:
    return _table([decode_windows(task, factory.spec) for task in _objects(table)])


class _EncoderStage:
    """An encoder in the pool, in a process of its own: tasks or decoded tasks in, results out.

    An error of the encoder comes out as a string. The first call opens it: Ray would try a
    constructor that fails again and again.
    """

    def __init__(self, factory: EncoderFactory) -> None:
        self._factory = factory
        self._encoder: Encoder | None = None

    def __call__(self, table: Any) -> Any:
        try:
            encoder = self._encoder = self._encoder or self._factory.open()
            objects = _objects(table)
            encoded = [each for each in objects if isinstance(each, EncodedVideo)]  # can't be read
            encoded += [
                encode_whole_video(encoder, each)
                for each in objects
                if isinstance(each, EncodeTask)
            ]
            windows = [each for each in objects if isinstance(each, DecodedWindows)]
            return _table(encoded + (encode_windows(encoder, windows) if windows else []))
        except OutOfMemory:
            return _table([HALVE_BATCH])
        except Exception as exc:  # whatever it is: it belongs to the encoder, and ends the run
            return _table([_line(exc)])


def _table(objects: Sequence[object]) -> Any:
    import pyarrow

    pickled = [pickle.dumps(each, pickle.HIGHEST_PROTOCOL) for each in objects]
    return pyarrow.table({_COLUMN: pyarrow.array(pickled, pyarrow.large_binary())})


def _objects(table: Any) -> list[Any]:
    return [pickle.loads(each.as_buffer()) for each in table[_COLUMN]]


def _line(exc: BaseException) -> str:
    lines = str(exc).strip().splitlines() or [type(exc).__name__]
    return lines[-1].strip()
