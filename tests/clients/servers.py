"""Servers of others, run by a test: nginx and coturn as the deployment guide configures them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

_DEPLOY = Path(__file__).resolve().parent.parent.parent / "docs" / "guides" / "deploy"
_PATIENT_S = 15.0


def guide_file(name: str, changes: Mapping[str, str]) -> str:
    """A file of docs/guides/deploy, with a test's own values in the places of the guide's.

    Every key of `changes` must stand in it.
    """
    text = (_DEPLOY / name).read_text(encoding="utf-8")
    for guide, own in changes.items():
        assert guide in text, f"{name} has no {guide!r}"
        text = text.replace(guide, own)
    return text


@asynccontextmanager
async def running(*command: str, port: int, within_s: float = _PATIENT_S) -> AsyncIterator[None]:
    """A server for as long as the block lasts; entered once it accepts connections at `port`.

    Fails with what it printed when it ends before that.
    """
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output = asyncio.create_task(process.communicate())
    try:
        async with asyncio.timeout(within_s):
            while not await _accepts(port):
                if output.done():
                    raise AssertionError(output.result()[0].decode(errors="replace"))
                await asyncio.sleep(0.02)
        yield
    finally:
        if process.returncode is None:
            process.terminate()
        await output


async def _accepts(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True
