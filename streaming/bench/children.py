"""The other processes of a benchmark: each gets its task as JSON and reports in lines of JSON.

A child ends when its stdin closes. Lines of its stdout that are no JSON objects are ignored:
libraries print there too.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import msgspec

_LINE_BYTES = 1 << 26  # of a child's report
_END_S = 5.0  # from closing its stdin until it is killed
_ROOT = Path(__file__).parent.parent.parent


class Child:
    """A running process. Started by `start`, ended with the stack that it was given.

    A line on its `stdin` lets it go on; closed, it asks it to end: it may still report.
    """

    def __init__(self, process: asyncio.subprocess.Process, module: str) -> None:
        assert process.stdin is not None and process.stdout is not None
        self.process, self.stdin = process, process.stdin
        self._stdout = process.stdout
        self._module = module

    @classmethod
    async def start(cls, stack: AsyncExitStack, module: str, task: object) -> Child:
        """Run `python -m module TASK`; the task, a dataclass, becomes JSON."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", module, msgspec.json.encode(task).decode()),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=_LINE_BYTES,
            cwd=_ROOT,
        )
        child = cls(process, module)
        stack.push_async_callback(child._end)
        return child

    async def receive(self) -> dict[str, Any]:
        """The next line that it reports.

        Raises:
            OSError: it has ended.
        """
        while not (line := await self._stdout.readline()).startswith(b"{"):
            if not line:
                status = await self.process.wait()
                raise OSError(f"{self._module} ended early, with status {status}")
        message: dict[str, Any] = msgspec.json.decode(line)
        return message

    async def _end(self) -> None:
        self.stdin.close()
        try:
            async with asyncio.timeout(_END_S):
                await self.process.wait()
        except TimeoutError:
            self.process.kill()
            await self.process.wait()


def send_line(message: Mapping[str, Any]) -> None:
    """In a child: report one JSON object to the parent."""
    print(msgspec.json.encode(message).decode(), flush=True)


async def parent_input() -> asyncio.StreamReader:
    """In a child: a line of it means "go on", its end that the parent closed it or is gone."""
    reader = asyncio.StreamReader()
    protocol = asyncio.StreamReaderProtocol(reader)
    await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, sys.stdin)
    return reader


async def parent_gone() -> None:
    """In a child: wait until the parent closes stdin, or is gone."""
    await (await parent_input()).read()
