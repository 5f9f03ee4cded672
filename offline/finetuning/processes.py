"""The processes that train together, one a GPU, as torch's own launcher starts them.

    torchrun --nproc-per-node N -m offline.finetune … -> [processes] -> loop

Without the launcher there is one process, which needs none of this.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import distributed

from models.vjepa2.torch_engine import torch_device

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Processes:
    """This process among `world`, and where it computes. The first writes and prints."""

    rank: int
    world: int
    device: torch.device

    @property
    def first(self) -> bool:
        return self.rank == 0

    def gathered(self, value: T) -> list[T]:
        """The values of all processes, in the order of their ranks."""
        values: list[T] = [value] * self.world
        if self.world > 1:
            distributed.all_gather_object(values, value)
        return values


@contextmanager
def joined(device: str) -> Iterator[Processes]:
    """Join the other processes, each on a GPU of its own unless `device` is cpu.

    Raises:
        ValueError: there is no such device, or too few GPUs.
    """
    world, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
    if world == 1:
        yield Processes(rank=0, world=1, device=torch_device(device))
        return
    if ":" in device:
        raise ValueError(f"--device {device}: several processes take a GPU each; give auto or cuda")
    place = torch_device(device)
    if place.type == "cuda":
        place = torch_device(f"cuda:{os.environ.get('LOCAL_RANK', '0')}")
        torch.cuda.set_device(place)
    distributed.init_process_group("nccl" if place.type == "cuda" else "gloo")
    try:
        yield Processes(rank=rank, world=world, device=place)
    finally:
        distributed.destroy_process_group()
