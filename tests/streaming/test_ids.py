"""Ids that nobody guesses, and that may name their server."""

from __future__ import annotations

from urllib.parse import quote

import pytest

from streaming.ids import new_id, server_of
from streaming.settings import ServerSettings


@pytest.mark.parametrize("name", ["a", "8jbdrcm7", "server-2", "0"])
def test_an_id_names_its_server(name: str) -> None:
    assert ServerSettings(name=name).name == name
    id = new_id(name)
    assert server_of(id) == name
    assert quote(id, safe="") == id, "it stands in a URL as it is"


def test_an_id_without_a_server_names_none() -> None:
    for _ in range(100):
        assert server_of(new_id("")) == ""


@pytest.mark.parametrize("odd", ["", "x", "-_-", "~"])
def test_text_that_is_no_id_names_none(odd: str) -> None:
    assert server_of(odd) == ""


def test_ids_are_long_and_differ() -> None:
    ids = {new_id("a") for _ in range(1000)}
    assert len(ids) == 1000
    assert {len(id) for id in ids} == {22 + 2}, "128 bits at six a letter"
    assert len(new_id("")) == 22
