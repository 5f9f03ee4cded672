"""Taught signs over the wire: of one session, and kept in the folder that all servers read."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import aiohttp
import numpy as np
from yarl import URL

from models.few_shot import MAX_SIGNS
from streaming.pipeline import pack
from tests.service.client import Service
from tests.streaming.caller import Camera, calling, predicted, problem

TAKE = pack(np.array([0, 1, 0, 0], np.float32))
BODY = {"space": "standin", "takes": [TAKE]}


def grey(n: int) -> np.ndarray[Any, Any]:
    return np.full((240, 320, 3), 128, np.uint8)


async def test_a_recorded_take_teaches_a_sign_to_this_session_alone(
    service: Service, http: aiohttp.ClientSession
) -> None:
    async with (
        calling(service.url, http, Camera(grey)) as caller,
        calling(service.url, http, Camera(grey)) as other,
    ):
        (hello,) = await caller.wait_for("hello")
        assert hello["model"]["space"] == "standin"
        await caller.wait_for("prediction")
        caller.send(type="take", id="first")
        (take,) = await caller.wait_for("take")
        assert (take["id"], take["space"]) == ("first", "standin")
        assert take["end_s"] - take["start_s"] >= 32 / 15 - 0.01
        sign = f"{service.url}{caller.location}/signs/{quote('half <light>', safe='')}"
        body = {"space": take["space"], "takes": [take["embedding"]]}
        async with http.put(sign, json=body) as response:
            assert response.status == 204
        known = await predicted(
            caller, lambda prediction: prediction["top"][0]["gloss"] == "half <light>"
        )
        assert known["top"][0]["p"] > 0.5
        assert (await caller.wait_for("sign"))[0]["gloss"] == "half <light>"
        async with http.delete(sign) as response:
            assert response.status == 204
        unknown = await predicted(
            caller, lambda prediction: prediction["top"][0]["gloss"] != "half <light>"
        )
        assert "half <light>" not in {one["gloss"] for one in unknown["top"]}
        async with http.delete(sign) as response:
            assert (await problem(response))["status"] == 404
        assert {
            one["gloss"] for prediction in other.of("prediction") for one in prediction["top"]
        } <= {
            "dark",
            "bright",
        }
        assert other.of("take") == []


async def test_bad_takes_and_names_are_refused_and_change_nothing(
    service: Service, http: aiohttp.ClientSession
) -> None:
    async with calling(service.url, http, Camera(grey)) as caller:
        await caller.wait_for("hello")
        signs = f"{service.url}{caller.location}/signs"
        refused: list[tuple[str, Any, int]] = [
            ("new", {"space": "standin", "takes": []}, 400),
            ("new", {"space": "standin", "takes": [pack(np.zeros(4, np.float32))]}, 400),
            ("new", {"space": "standin", "takes": [pack(np.full(4, np.nan, np.float32))]}, 400),
            ("new", {"space": "other", "takes": [TAKE]}, 409),
            ("new", {"space": "standin", "takes": ["A" * 200_000]}, 413),
            ("x" * 61, BODY, 400),
            ("a%00b", BODY, 400),
            ("%20", BODY, 400),
        ]
        for gloss, body, status in refused:
            async with http.put(f"{signs}/{gloss}", json=body) as response:
                assert response.status == status, (gloss, await response.text())
        async with http.put(f"{service.url}/whip/nobody/signs/new", json=BODY) as response:
            assert response.status == 404
        for n in range(MAX_SIGNS):
            async with http.put(f"{signs}/{n}", json=BODY) as response:
                assert response.status == 204
        async with http.put(f"{signs}/more", json=BODY) as response:
            assert (await problem(response))["status"] == 429
        caller.send(type="take", id="")
        assert (await caller.wait_for("error"))[0]["code"] == "bad-field"
        await predicted(caller, lambda prediction: bool(prediction["top"]))


async def test_any_name_may_be_taught_and_is_read_at_once_wherever_one_asks(
    service: Service, http: aiohttp.ClientSession
) -> None:
    names = ["{", "}", "{gloss}", "a{b}c", "a/b", "%", "%7B", "a?b#c", "+", "🖐", "é", "two words"]
    signs = f"{service.url}/api/signs"

    async def there() -> list[str]:
        async with http.get(signs) as response:
            return [sign["gloss"] for sign in (await response.json())["signs"]]

    tags = {}
    for n, name in enumerate(names, 1):
        url = URL(f"{signs}/{quote(name, safe='')}", encoded=True)
        async with http.put(url, json=BODY, headers={"If-None-Match": "*"}) as response:
            assert response.status == 204, name
            tags[name] = response.headers["ETag"]
        assert await there() == names[:n], "another server may be asked than was told"
        async with http.put(url, json=BODY, headers={"If-None-Match": "*"}) as response:
            assert (await problem(response))["status"] == 412
    for n, name in enumerate(names, 1):
        url = URL(f"{signs}/{quote(name, safe='')}", encoded=True)
        async with http.delete(url, headers={"If-Match": '"older"'}) as response:
            assert (await problem(response))["status"] == 412
        async with http.delete(url, headers={"If-Match": tags[name]}) as response:
            assert response.status == 204
        assert await there() == names[n:]
