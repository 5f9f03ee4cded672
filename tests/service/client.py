"""The service as its clients know it: an address, and what /metrics says."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from tests.service.serving import TOKEN

RIGHT = {"Authorization": f"Bearer {TOKEN}"}
SDP = {"Content-Type": "application/sdp"}
ENDED = "livegloss_sessions_ended_total "  # and why: the sessions that have ended
_POLL_S = 0.05


@dataclass(frozen=True, slots=True)
class Service:
    """One server or many, at an address."""

    url: str

    async def numbers(self, http: aiohttp.ClientSession) -> Counter[str]:
        """The sums over all servers: of `name`, and of `name value` for each label's value."""
        async with http.get(f"{self.url}/metrics") as response:
            assert response.status == 200
            text = await response.text()
        sums: Counter[str] = Counter()
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                labels = [v for k, v in sorted(sample.labels.items()) if k != "replica"]
                sums[" ".join([sample.name, *labels])] += sample.value  # type: ignore[assignment]
        return sums

    async def until(
        self, http: aiohttp.ClientSession, name: str, number: float, within_s: float = 30
    ) -> None:
        """Wait until a number of /metrics is this one. Nothing else tells of it from outside."""
        async with asyncio.timeout(within_s):
            while True:
                if (await self.numbers(http))[name] == number:
                    return
                await asyncio.sleep(_POLL_S)

    async def until_empty(self, http: aiohttp.ClientSession) -> None:
        await self.until(http, "livegloss_sessions", 0)


def server_in(location: str) -> str:
    """The name of the server in a session's path; empty where there is one server."""
    return location.partition("~")[2]
