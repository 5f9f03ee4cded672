"""A network of its own on this machine, made worse by the kernel: `tc netem` in a namespace.

A pair of virtual interfaces joins a new network namespace to this one; netem delays and loses what
leaves either end. Peers run inside (`command`), the server listens at `host`. Needs root, iproute2
and the kernel's sch_netem; all of it is taken away again at the end. No other interface is touched.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from streaming.bench.settings import NetworkConditions

_PREFIX = "198.18"  # RFC 2544: for benchmarks, routed nowhere


class NoNamespace(Exception):
    """It can't be made here; the message says why, in a few words."""


@dataclass(frozen=True, slots=True)
class Namespace:
    """A network namespace that is there for as long as `made` holds it."""

    name: str
    host: str  # this end's address, at which those inside reach a server

    @property
    def command(self) -> tuple[str, ...]:
        """What a command begins with that is to run inside."""
        return ("ip", "netns", "exec", self.name)

    @classmethod
    @asynccontextmanager
    async def made(cls, network: NetworkConditions) -> AsyncIterator[Namespace]:
        """Make one, and take it away.

        Raises:
            NoNamespace: this machine doesn't allow it, or has no netem.
        """
        number = os.getpid()
        third, fourth = number // 64 % 256, number % 64 * 4
        namespace = cls(f"livegloss-{number}", f"{_PREFIX}.{third}.{fourth + 1}")
        await _run(["ip", "netns", "add", namespace.name])
        try:
            for command in namespace._commands(network, f"{_PREFIX}.{third}.{fourth + 2}"):
                await _run(command)
            yield namespace
        finally:
            # The interfaces go with the namespace that one of them is in.
            await _run(["ip", "netns", "delete", namespace.name])

    def _commands(self, network: NetworkConditions, there: str) -> Iterator[list[str]]:
        outer, inner = (f"lg{os.getpid()}{end}" for end in "ab")
        veth = ["type", "veth", "peer", "name", inner, "netns", self.name]
        yield ["ip", "link", "add", outer, *veth]
        yield ["ip", "address", "add", f"{self.host}/30", "dev", outer]
        yield ["ip", "link", "set", outer, "up"]
        yield ["ip", "-netns", self.name, "address", "add", f"{there}/30", "dev", inner]
        yield ["ip", "-netns", self.name, "link", "set", inner, "up"]
        if network.bad:
            qdisc = ["root", *netem(network)]
            yield ["tc", "qdisc", "add", "dev", outer, *qdisc]
            yield ["tc", "-netns", self.name, "qdisc", "add", "dev", inner, *qdisc]


def netem(network: NetworkConditions) -> list[str]:
    """The arguments that make one end of a network as bad as is asked."""
    words = ["netem"]
    if network.rtt_ms:
        words += ["delay", f"{network.rtt_ms / 2:g}ms"]
        words += [f"{network.jitter_ms:g}ms"] if network.jitter_ms else []
    if network.loss:
        words += ["loss", "random", f"{100 * network.loss:g}%"]
    if network.rate_kbit is not None:
        words += ["rate", f"{network.rate_kbit:g}kbit"]
    return words


async def _run(command: list[str]) -> None:
    try:
        process = await asyncio.create_subprocess_exec(
            *command, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
        )
        _, said = await process.communicate()
    except OSError as error:
        raise NoNamespace(f"{command[0]}: {error.strerror}") from error
    if process.returncode:
        words = said.decode(errors="replace").strip().splitlines() or ["failed"]
        raise NoNamespace(f"{' '.join(command[:2])}: {words[-1]}")
