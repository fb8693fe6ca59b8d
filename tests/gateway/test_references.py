"""Secrets stay where they are: no key enters the log, and a reference leads to one when it is needed."""

from pathlib import Path

import pytest

from streams.admin import BadChange, OrganizationChange, check_organization
from streams.errors import SettingError
from streams.references import resolve
from streams.settings import load
from streams.webhook_secrets import Secrets, in_force


@pytest.mark.parametrize(
    "text", ["name:sk-or-v1-0123456789abcdef0123456789abcdef", "env:sk_live_0123456789abcdef"]
)
def test_a_secret_behind_a_prefix(text: str) -> None:
    """What looks like a secret behind `name:` or `env:` is refused as it is without it."""
    with pytest.raises(BadChange):
        check_organization(OrganizationChange(id="acme", provider_key=text))


def test_a_reference_leads_to_its_secret(tmp_path: Path) -> None:
    """env:NAME is of the environment, file:PATH a file's text; neither keeps the line's end."""
    (tmp_path / "key").write_text("sk-file\n")
    assert resolve("env:KEY", {"KEY": " sk-env\n"}) == "sk-env"
    assert resolve(f"file:{tmp_path}/key", {}) == "sk-file"


@pytest.mark.parametrize(
    ("reference", "why"),
    [("env:KEY", "env:KEY is not set, or empty, in the process that runs this"),
     ("env:EMPTY", "or give file:PATH, which needs no restart"), ("file:{}/none", "can't be read: No such"),
     ("file:{}", "can't be read: Is a directory"), ("file:{}/empty", "is empty"), ("file:{}/bytes", "UTF-8"),
     ("file:{}/large", "4096 bytes"), ("name:main", "no store of names yet"),
     ("sk-or-v1-0123", "env:NAME or file:"), ("", "env:NAME or file:"), ("vault:x", "env:NAME or file:"),
     ("env", "env:NAME or file:")],
)  # fmt: skip
def test_a_reference_that_leads_nowhere(tmp_path: Path, reference: str, why: str) -> None:
    """The error says what is missing; what is no reference may be a secret, and is not repeated."""
    (tmp_path / "empty").write_text(" \n")
    (tmp_path / "bytes").write_bytes(b"\xff")
    (tmp_path / "large").write_text("s3cret" * 1000)
    with pytest.raises(SettingError) as caught:
        resolve(reference.format(tmp_path), {"EMPTY": " "})
    assert why in str(caught.value)
    assert "sk-or" not in str(caught.value) and "s3cret" not in str(caught.value)


def test_the_file_of_a_setting_is_known(tmp_path: Path) -> None:
    """GENLEDGER_WEBHOOK_SECRETS_FILE is read, shown as where the setting came from, and looked at again."""
    file = tmp_path / "secrets"
    file.write_text("litellm acme s-old-0123456789\n")
    settings = load({"GENLEDGER_WEBHOOK_SECRETS_FILE": str(file)})
    assert settings.origin["webhook_secrets"] == f"the file {file}"
    assert [one.text for one in in_force(settings).of_source("litellm")] == [b"s-old-0123456789"]
    file.write_text("litellm acme s-new-0123456789\n")
    assert [one.text for one in in_force(settings).of_source("litellm")] == [b"s-new-0123456789"]
    plain = load({"GENLEDGER_WEBHOOK_SECRETS": "litellm acme s-plain-0123456789"})
    assert plain.origin["webhook_secrets"] == "environment"
    assert [one.text for one in in_force(plain).of_source("litellm")] == [b"s-plain-0123456789"]


def test_a_file_is_looked_at_once_a_second(tmp_path: Path) -> None:
    """Between two looks nothing is asked of the disk; a file that has gone keeps what it said."""
    now_s = [100.0]
    file = tmp_path / "secrets"
    file.write_text("litellm acme s-one-0123456789\n")
    secrets = Secrets("", str(file), lambda: now_s[0])
    assert "s-one-0123456789" not in repr(secrets.of_source("litellm"))
    file.write_text("litellm acme s-second-0123456789\n")
    now_s[0] += 0.9
    assert [one.text for one in secrets.of_source("litellm")] == [b"s-one-0123456789"]
    now_s[0] += 0.2
    assert [one.text for one in secrets.of_source("litellm")] == [b"s-second-0123456789"]
    file.unlink()
    now_s[0] += 1.1
    assert [one.text for one in secrets.of_source("litellm")] == [b"s-second-0123456789"]


@pytest.mark.parametrize("url", ["openrouter.ai", "", "ftp://openrouter.ai", "//openrouter.ai"])
def test_a_providers_address_has_a_scheme(url: str) -> None:
    """An address that no request could be sent to stops the start, and is shown with one that is right."""
    with pytest.raises(SettingError) as caught:
        load({"GENLEDGER_PROVIDER_URL": url})
    assert str(caught.value) == (
        "GENLEDGER_PROVIDER_URL must begin with https:// or http://, such as https://openrouter.ai/api/v1,"
        f" not '{url}'"
    )
    for good in ("https://openrouter.ai/api/v1", "HTTP://localhost:8080"):
        assert load({"GENLEDGER_PROVIDER_URL": good}).provider_url == good
