"""How encoders are opened, and on which devices."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from models.encoders import devices
from tests.models.bundles import SPEC

VJEPA2 = dataclasses.replace(SPEC, kind="vjepa2")


@pytest.mark.parametrize(
    ("gpus", "name", "opened"),
    [
        (2, "cuda", ["cuda:0", "cuda:1"]),
        (2, "cuda:1", ["cuda:1"]),
        (2, "auto", ["auto"]),
        (2, "cpu", ["cpu"]),
        (0, "cuda", ["cuda"]),  # opening it says that there is none
    ],
)
def test_cuda_without_a_number_means_every_gpu(
    monkeypatch: pytest.MonkeyPatch, gpus: int, name: str, opened: list[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    assert devices(VJEPA2, name) == opened


def test_an_encoder_that_keeps_what_it_saw_of_a_stream_has_one_device() -> None:
    assert devices(SPEC, "cuda") == ["cuda"]
