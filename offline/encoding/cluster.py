"""Encodes videos on a Ray cluster, where one machine is not enough: tasks in, outcomes out.

    tasks -> Ray Data: look, on any CPU -> a pool of encoders, one a GPU -> here: stored, outcomes

The stages are those of `pipeline` and `workers`, and so is what they make, checksum for checksum.
Only this process stores. The nodes must have livegloss installed and see the videos and the
checkpoint under the paths that this machine does; the output folder is this machine's alone.

What was on a node that is lost is not repaired piece by piece: what has no outcome when all else is
done goes round once more, until a round brings nothing. So nothing is lost, what has an outcome is
never encoded again, and a video that kills its worker is told in the end.
"""

from __future__ import annotations

import logging
import os
import pickle
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from models.schema import Encoder
from offline.encoding import run
from offline.encoding.embed import row_a_frame
from offline.encoding.opening import Opening
from offline.encoding.tasks import EncodeOutcome, EncodeTask, Finished, stored

_LOCAL = "local"  # a cluster of this machine alone, on its loopback, for as long as the run takes
_BLOCK = 8  # videos a Ray task looks at: each costs the driver milliseconds
_COLUMN = "it"  # a pickled object a row


class Cluster:
    """A connection to a Ray cluster; a context manager, once in a process.

    Raises:
        ValueError: Ray is not installed.
        OSError: there is no such cluster.
    """

    def __init__(self, address: str) -> None:
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # before the import: nothing calls home
        try:
            import ray.data
        except ModuleNotFoundError as exc:
            raise ValueError('--ray needs Ray: pip install "livegloss[cluster]"') from exc
        self._ray: Any = ray
        here: dict[str, Any] = {"include_dashboard": False, "_node_ip_address": "127.0.0.1"}
        try:
            ray.init(
                address=address,  # "local" never joins a cluster that happens to run here
                log_to_driver=False,
                logging_level=logging.ERROR,
                **(here if address == _LOCAL else {}),
            )
        except (OSError, RuntimeError, ValueError) as exc:
            raise OSError(f"--ray {address}: no cluster there: {_line(exc)}") from exc
        resources = self._ray.cluster_resources()
        self.gpus = int(resources.get("GPU", 0))
        self.cpus = int(resources.get("CPU", 1))
        self.nodes = sum(node["Alive"] for node in self._ray.nodes())
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.max_errored_blocks = -1  # what they held goes round once more
        logging.getLogger("ray.data").setLevel(logging.CRITICAL)
        # Of 2.60: by 2.64 retries must be told in another way, which is not there yet.
        warnings.filterwarnings("ignore", "`ray_remote_args` is deprecated")

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *exc: object) -> None:
        self._ray.shutdown()

    def outcomes(
        self, tasks: Sequence[EncodeTask], out: Path, opening: Opening, *, encoders: int | None
    ) -> Iterator[EncodeOutcome]:
        """Work on `tasks`, in whatever order they end.

        Args:
            encoders: how many; None: one a GPU; without GPUs one a node, or one a CPU where an
                encoder takes whole videos.

        Raises:
            OSError: an encoder can't be had or failed, the cluster is gone, or the disk is full.
        """
        left = {task.video.video_id: task for task in tasks}
        block = max(1, min(_BLOCK, len(tasks) // (4 * self.cpus)))
        while left:
            before, problem = len(left), ""
            try:
                for finished in self._round(list(left.values()), opening, encoders, block):
                    if isinstance(finished, str):
                        raise OSError(f"an encoder on the cluster failed: {finished}")
                    if left.pop(finished.video.video_id, None) is not None:
                        yield stored(finished, out, opening.spec)
            except self._ray.exceptions.RayError as exc:
                problem = _line(exc)
            if len(left) == before and problem:
                raise OSError(f"the cluster does not go on: {problem}")
            if len(left) == before:
                break
            block = 1  # so that one video that kills its worker takes no other with it
        for task in left.values():
            yield EncodeOutcome(
                video=task.video, why_not="its worker died each time that it was tried"
            )

    def _round(
        self, tasks: Sequence[EncodeTask], opening: Opening, encoders: int | None, block: int
    ) -> Iterator[Finished | str]:
        data = self._ray.data.from_items(
            [{_COLUMN: pickle.dumps(task)} for task in tasks],
            override_num_blocks=-(-len(tasks) // block),
        )
        gpu = self.gpus and opening.device != "cpu"
        if row_a_frame(opening.spec):
            stage: type[_Stage] = _Whole
            videos, count = 1, self.cpus
        else:
            data = data.map_batches(
                _look,
                fn_args=(opening,),
                batch_size=1,
                batch_format="pyarrow",
                max_retries=1,
            )
            videos = opening.videos(max(len(task.variants) for task in tasks))
            stage = _Windows
            count = self.gpus if gpu else self.nodes
        data = data.map_batches(
            stage,
            fn_constructor_args=(opening,),
            batch_size=videos,
            batch_format="pyarrow",
            compute=self._ray.data.ActorPoolStrategy(
                size=encoders or count, max_tasks_in_flight_per_actor=2
            ),
            num_cpus=int(row_a_frame(opening.spec)),
            num_gpus=1 if gpu else 0,
            max_restarts=-1,
            max_task_retries=0,
        )
        for table in data.iter_batches(batch_size=None, batch_format="pyarrow"):
            yield from _objects(table)


def _look(table: Any, opening: Opening) -> Any:
    """Tasks in, what `run.looked` says of each out."""
    return _table([run.looked(task, opening.spec) for task in _objects(table)])


class _Stage(ABC):
    """An encoder in the pool, in a process of its own. A fault of it is told as a string.

    It is opened by the first call: Ray tries a constructor that fails again and again.
    """

    def __init__(self, opening: Opening) -> None:
        self._opening = opening
        self._encoder: Encoder | None = None

    def __call__(self, table: Any) -> Any:
        try:
            self._encoder = self._encoder or self._opening.open()
            return _table(self._finished(self._encoder, _objects(table)))
        except Exception as exc:  # whatever it is: it belongs to the encoder, and ends the run
            return _table([_line(exc)])

    @abstractmethod
    def _finished(self, encoder: Encoder, objects: list[Any]) -> list[Finished]: ...


class _Whole(_Stage):
    """Tasks in, finished ones out."""

    def _finished(self, encoder: Encoder, objects: list[Any]) -> list[Finished]:
        return [run.encoded_by_processes(encoder, task) for task in objects]


class _Windows(_Stage):
    """What `_look` gave in, finished tasks out."""

    def _finished(self, encoder: Encoder, objects: list[Any]) -> list[Finished]:
        done = [one for one in objects if isinstance(one, Finished)]
        ready = [one for one in objects if not isinstance(one, Finished)]
        return done + (run.encoded_by_threads(encoder, ready) if ready else [])


def _table(objects: Sequence[object]) -> Any:
    import pyarrow

    pickled = [pickle.dumps(one, pickle.HIGHEST_PROTOCOL) for one in objects]
    return pyarrow.table({_COLUMN: pyarrow.array(pickled, pyarrow.large_binary())})


def _objects(table: Any) -> list[Any]:
    return [pickle.loads(one.as_buffer()) for one in table[_COLUMN]]


def _line(exc: BaseException) -> str:
    lines = str(exc).strip().splitlines() or [type(exc).__name__]
    return lines[-1].strip()
