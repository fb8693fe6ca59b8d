"""What docs/http.md gives to copy works as it stands there."""

import asyncio
import os
import re
import shlex
import sys
from pathlib import Path

import pytest

from streams import clock
from tests.gateway.conftest import House, Make

PAGE = (Path(__file__).parents[2] / "docs" / "http.md").read_text()
SERVICE = "http://127.0.0.1:8787"
BODY = b'{"id": "gen-3", "model": "m"}'
JSON = {"Content-Type": "application/json"}


def snippet(pattern: str) -> str:
    """The one piece of the page that a pattern finds."""
    [found] = re.findall(pattern, PAGE, re.MULTILINE | re.DOTALL)
    return str(found)


SIGNED = snippet(r"^```python\n(.*?)^```$")
CURL = snippet(r"^    (curl \S+/webhooks/standard .*?)\n\n")
SECRET = snippet(r"^    standard +acme +(whsec_\S+)$")


@pytest.fixture
async def house(make_house: Make) -> House:
    """A house with the secret that the page shows."""
    return await make_house(webhook_secrets=f"standard acme {SECRET}")  # type: ignore[no-any-return]


async def printed(house: House, program: str) -> str:
    """What a Python program prints that must succeed, with the house in the service's place."""
    assert SERVICE in program
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", program.replace(SERVICE, f"http://127.0.0.1:{house.port}")),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "no_proxy": "*"},
    )
    out, error = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, error.decode()
    return out.decode()


async def test_the_signed_request_of_the_page_is_taken(house: House) -> None:
    """The page's Python signs as the door checks it, and the secret's organisation has the generation."""
    house.now_ms = clock.now_ms()
    assert '"accepted":1' in await printed(house, SIGNED)
    assert (await house.events())["gen-2"].organization == "acme"


async def test_the_unsigned_request_of_the_page_is_taken(house: House) -> None:
    """The page's curl, with a key, is taken; without its content type it is 415, as the page says."""
    key = await house.key("acme")
    words = shlex.split(CURL.replace("\\\n", " ").replace("$GENLEDGER_KEY", key))
    url, options = words[1], list(zip(words[2::2], words[3::2], strict=True))
    headers = dict(value.split(": ", 1) for name, value in options if name == "-H")
    [body] = [value.encode() for name, value in options if name == "-d"]
    path = url.removeprefix(SERVICE)
    status, _ = await house.call("POST", path, data=body, headers=headers)
    assert (status, list(await house.events())) == (202, ["gen-1"])
    form = headers | {"content-type": "application/x-www-form-urlencoded"}  # what `curl -d` says by itself
    status, _ = await house.call("POST", path, data=body, headers=form)
    assert status == 415


async def test_whoever_asks_for_another_organisation_is_refused(house: House) -> None:
    """?org= of another is 403 with a key of one organisation, 401 with a secret of one."""
    for key, expected in ((await house.key("acme"), 403), (SECRET, 401)):
        answers = [
            await house.call("POST", f"/webhooks/standard?org={org}", key, data=BODY, headers=JSON)
            for org in ("bravo", "acme")
        ]
        assert [status for status, _ in answers] == [expected, 202]
