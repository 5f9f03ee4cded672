"""Drafts by `transformers serve`, a real server of language models, with a tiny random checkpoint.

It writes words at random: this shows the protocol, and nothing of how good drafts are.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from streaming.app import serve
from streaming.bench.standin import StandIn
from streaming.settings import DraftSettings
from tests.browser import free_port
from tests.clients.conftest import SETTINGS
from tests.clients.install import missing
from tests.clients.servers import running
from tests.streaming.caller import Caller, calling
from tests.streaming.test_drafts import draft

pytestmark = pytest.mark.skipif(
    missing("transformers-serve") is not None, reason=str(missing("transformers-serve"))
)

_TEMPLATE = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
_START_S = 60.0  # torch and transformers are imported


def write_checkpoint(folder: Path) -> Path:
    """A language model of 4,000 random weights that knows 60 words of 16 letters."""
    words = ["".join(chr(97 + (7 * n + 11 * place) % 26) for place in range(16)) for n in range(60)]
    vocabulary = {word: n for n, word in enumerate(["<s>", "</s>", "<unk>", *dict.fromkeys(words)])}
    tokenizer = Tokenizer(models.WordLevel(vocab=vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    make: Any = PreTrainedTokenizerFast
    ends = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    fast = make(tokenizer_object=tokenizer, chat_template=_TEMPLATE, **ends)
    fast.save_pretrained(folder)
    config = LlamaConfig(
        vocab_size=len(vocabulary),
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=1,
        max_position_embeddings=8192,
        bos_token_id=0,
        eos_token_id=1,
    )
    torch.manual_seed(0)
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@asynccontextmanager
async def transformers_serve(model: Path) -> AsyncIterator[str]:
    """`transformers serve`, as the guide starts it, without a way to the hub."""
    port = free_port()
    environment = ("env", "HF_HUB_OFFLINE=1", "CUDA_VISIBLE_DEVICES=")
    command = (sys.executable, "-m", "transformers.cli.transformers", "serve", str(model))
    place = ("--device", "cpu", "--host", "127.0.0.1", "--port", str(port))
    async with running(*environment, *command, *place, port=port, within_s=_START_S):
        yield f"http://127.0.0.1:{port}/v1"


@asynccontextmanager
async def session(settings: DraftSettings, http: aiohttp.ClientSession) -> AsyncIterator[Caller]:
    """A session of a server with these settings."""
    async with (
        serve(replace(SETTINGS, draft=settings), StandIn()) as server,
        calling(server.url, http) as caller,
    ):
        yield caller


async def test_transformers_serves_drafts(tmp_path: Path) -> None:
    model = write_checkpoint(tmp_path / "tiny")
    signs = [{"gloss": "bright", "p": 0.9}]
    async with transformers_serve(model) as url, aiohttp.ClientSession() as http:
        settings = DraftSettings(url=url, model=str(model), timeout_s=50.0)
        async with session(settings, http) as caller:
            text, code, message = await draft(http, caller)
            assert text.strip() and code in ("done", "length", "endless"), (code, message)
            # A page that leaves in the middle leaves the model free for the next draft.
            address = f"{caller.url}{caller.location}/draft"
            async with http.post(address, json={"signs": signs}) as response:
                assert response.status == 200
                await response.content.readline()
            assert (await draft(http, caller))[0] == text
            await caller.wait_for_more("prediction")
        async with session(replace(settings, model="nobody/nothing"), http) as caller:
            assert (await draft(http, caller))[1] == "refused"
