"""Servers of others, run by a test: nginx and coturn as the deployment guide configures them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import trustme

from tests.browser import free_port
from tests.clients.install import program

_DEPLOY = Path(__file__).resolve().parent.parent.parent / "docs" / "guides" / "deploy"
_PATIENT_S = 15.0
_NGINX = """
daemon off; master_process off; error_log stderr; pid {folder}/nginx.pid;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/livegloss.conf;
}}
"""


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


@asynccontextmanager
async def nginx(name: str, changes: Mapping[str, str], folder: Path) -> AsyncIterator[str]:
    """nginx with a file of docs/guides/deploy; the page's address there.

    `changes`: see `guide_file`; its ports and its certificate are replaced here. What nginx writes
    goes to `folder`.
    """
    certificate = trustme.CA().issue_cert("127.0.0.1", "signs.example")
    certificate.private_key_and_cert_chain_pem.write_to_path(folder / "both.pem")
    port, letsencrypt = free_port(), "/etc/letsencrypt/live/signs.example"
    own = {
        "listen 80": f"listen 127.0.0.1:{free_port()}",
        "listen 443": f"listen 127.0.0.1:{port}",
        f"{letsencrypt}/fullchain.pem": f"{folder}/both.pem",
        f"{letsencrypt}/privkey.pem": f"{folder}/both.pem",
    }
    (folder / "livegloss.conf").write_text(guide_file(name, own | dict(changes)))
    (folder / "nginx.conf").write_text(_NGINX.format(folder=folder))
    command = (str(program("nginx")), "-p", str(folder), "-c", str(folder / "nginx.conf"))
    async with running(*command, port=port):
        yield f"https://127.0.0.1:{port}/sign/"


async def _accepts(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True
