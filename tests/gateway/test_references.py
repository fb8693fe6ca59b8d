"""Provider keys never enter the log, not by an administrator's mistake either."""

import pytest

from streams.admin import BadChange, OrganizationChange, check_organization


@pytest.mark.parametrize(
    "text", ["name:sk-or-v1-0123456789abcdef0123456789abcdef", "env:sk_live_0123456789abcdef"]
)
def test_a_secret_behind_a_prefix(text: str) -> None:
    """What looks like a secret behind `name:` or `env:` is refused as it is without it."""
    with pytest.raises(BadChange):
        check_organization(OrganizationChange(id="acme", provider_key=text))
