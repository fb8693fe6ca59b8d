"""LiteLLM itself, in an environment of its own: too large for every installation."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.client.fakes import ANSWER, PROMPT, Provider, serving
from tests.road.harness import clean_environ

ROOT = Path(__file__).parents[2]
UV = Path(sys.executable).parent / "uv"


@pytest.mark.soak
def test_litellm_itself_calls_the_callback(gateway, tmp_path):
    """The example program's three calls are recorded once each, with the provider's counts and ids."""
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([UV, "venv", "--quiet", "--python", sys.executable, tmp_path / "venv"], check=True)
    packages = ["litellm>=1.97,<2", "msgspec>=0.20", "tzdata"]
    subprocess.run([UV, "pip", "install", "--quiet", "--python", python, *packages], check=True)
    with serving(Provider()) as provider:
        environ = {
            **clean_environ(),
            "PYTHONPATH": str(ROOT),
            "GENLEDGER_URL": gateway.url,
            "GENLEDGER_ORGANIZATION": "acme",
            "GENLEDGER_SPOOL": str(tmp_path / "spool"),
            "OPENAI_API_BASE": provider.url,
            "OPENAI_API_KEY": "sk-test",
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        }
        run = subprocess.run(
            [python, "examples/litellm/program.py"],
            env={**os.environ, **environ},
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
    assert run.returncode == 0, run.stderr
    assert sorted(gateway.taken) == ["gen-1", "gen-2", "gen-3"], run.stderr
    assert {event["total_tokens"] for event in gateway.taken.values()} == {15}
    assert PROMPT not in str(gateway.bodies)
    assert ANSWER not in str(gateway.bodies)
