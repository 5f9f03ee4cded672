"""The other processes of a benchmark: each is told its task as JSON, and answers in lines of JSON.

A child ends when its stdin closes. Lines of its stdout that are no JSON objects are passed over:
libraries print there too.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

_LINE_BYTES = 1 << 26  # of a child's report
_END_S = 5.0  # to hang up, else it is killed


class Child:
    """A running process. Started by `start`, ended with the stack that it was given."""

    def __init__(self, process: asyncio.subprocess.Process, module: str) -> None:
        self._process = process
        self._module = module

    @classmethod
    async def start(
        cls,
        stack: AsyncExitStack,
        module: str,
        task: Mapping[str, Any],
        *flags: str,
        prefix: Sequence[str] = (),
    ) -> Child:
        """Run `PREFIX... python -m module TASK FLAGS...`."""
        process = await asyncio.create_subprocess_exec(
            *prefix,
            sys.executable,
            "-m",
            module,
            json.dumps(task),
            *flags,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=_LINE_BYTES,
            cwd=Path(__file__).parent.parent.parent,
        )
        child = cls(process, module)
        stack.push_async_callback(child._end)
        return child

    @property
    def pid(self) -> int:
        return self._process.pid

    async def line(self) -> dict[str, Any]:
        """The next line of its report.

        Raises:
            OSError: it has ended.
        """
        assert self._process.stdout is not None
        while not (line := await self._process.stdout.readline()).startswith(b"{"):
            if not line:
                status = await self._process.wait()
                raise OSError(f"{self._module} ended early, with status {status}")
        message: dict[str, Any] = json.loads(line)
        return message

    def go_on(self) -> None:
        """Tell it to go on, where it waits for that."""
        assert self._process.stdin is not None
        self._process.stdin.write(b"\n")

    def kill(self) -> None:
        """End it as a power cut would."""
        self._process.kill()

    def hang_up(self) -> None:
        """Tell it that nothing more is wanted; it may still report."""
        assert self._process.stdin is not None
        self._process.stdin.close()

    async def _end(self) -> None:
        self.hang_up()
        try:
            async with asyncio.timeout(_END_S):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()


def say(message: Mapping[str, Any]) -> None:
    """In a child: report a line."""
    print(json.dumps(message), flush=True)


@asynccontextmanager
async def parent() -> AsyncIterator[asyncio.StreamReader]:
    """In a child: what the parent says; a line is to go on, the end that it has hung up."""
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    transport, _ = await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    try:
        yield reader
    finally:
        transport.close()


async def hung_up() -> None:
    """In a child: wait until the parent hangs up, or is gone."""
    async with parent() as told:
        await told.read()
