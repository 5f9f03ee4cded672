"""The recogniser on all of its devices: one worker each, opened, warmed and closed together."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self

from models.bundle import Bundle, open_bundle
from models.encoders import devices
from models.fused import recognizer_on
from models.schema import EncoderSpec
from streaming.recognizer import RecognizerCore, RecognizerWorker
from streaming.settings import RecognizerSettings


class Devices:
    """As many workers as there are ways to make a recogniser; all of them of the same bundle.

    A stream's windows go to whichever device is free: more than one is only for encoders that keep
    nothing between clips (`models.encoders.devices`).
    """

    def __init__(
        self, makes: Sequence[Callable[[], RecognizerCore]], settings: RecognizerSettings
    ) -> None:
        if not makes:
            raise ValueError("a recogniser needs a device")
        self._all = [RecognizerWorker(make, settings) for make in makes]
        self._opened = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            for worker in self._all:  # one after the other: each may need all the memory to load
                await stack.enter_async_context(worker)
            self._opened = stack.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._opened.aclose()

    def __iter__(self) -> Iterator[RecognizerWorker]:
        return iter(self._all)

    @property
    def bundle(self) -> Bundle:
        return self._all[0].bundle

    @property
    def spec(self) -> EncoderSpec:
        return self._all[0].spec

    @property
    def device(self) -> str:
        """Where they compute: "cpu", "cuda:0, cuda:1"."""
        return ", ".join(worker.device for worker in self._all)


async def makes_of(settings: RecognizerSettings) -> Sequence[Callable[[], RecognizerCore]]:
    """How to open the bundle that the settings name, on each of the devices that they name.

    Raises:
        BundleError, ValueError: the bundle or a device can not be had.
    """
    bundle = await asyncio.to_thread(open_bundle, settings.model)
    return [
        functools.partial(
            recognizer_on,
            bundle,
            name,
            max_new_frames=settings.max_new_frames,
        )
        for name in devices(bundle.encoder, settings.device)
    ]
