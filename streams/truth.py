"""The one source that is believed about a model's calls, where several tell of them under ids that differ.

>>> rules = rules_of("anthropic/=litellm openai/=opentelemetry|sync")
>>> believed(rules, "openai/gpt-5"), believed(rules, "mistral/large")
(('opentelemetry', 'sync'), ())

The longest prefix that fits a model decides; `*` stands for every model. Where none fits, every source is
believed. Pure; `streams.ledger` says what is done about it.
"""

import re
from functools import lru_cache

from streams.generation import TEXT_BYTES_MAX

# A prefix, and the sources that are believed of the models which begin with it.
Rule = tuple[str, tuple[str, ...]]

# What the provider tells when it is asked: the source of what the sync publishes.
SYNC = "sync"
RULES_MAX = 64
SOURCES_MAX = 8
TRUTH_BYTES_MAX = 8192
EVERY_MODEL = "*"
_SOURCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:/-]*")
# As many texts as there are organisations with one, several times over.
_PARSED_MAX = 4096


def rules_of(text: str) -> tuple[Rule, ...]:
    """The rules of a setting, the longest prefix first; `ValueError` says which of them is wrong."""
    found: dict[str, tuple[str, ...]] = {}
    for word in text.split():
        prefix, sources = _rule_of(word)
        if prefix in found:
            raise ValueError(f"names the prefix {prefix or EVERY_MODEL} twice")
        found[prefix] = sources
    if len(found) > RULES_MAX:
        raise ValueError(f"must have at most {RULES_MAX} prefixes")
    return tuple(sorted(found.items(), key=lambda rule: (-len(rule[0]), rule[0])))


def _rule_of(word: str) -> Rule:
    prefix, equals, listed = word.rpartition("=")
    if not equals or not prefix:
        raise ValueError(f"{word!r} must be PREFIX=SOURCE, such as anthropic/=litellm; * is every model")
    if len(prefix.encode()) > TEXT_BYTES_MAX["model"]:
        raise ValueError(f"a prefix must be at most {TEXT_BYTES_MAX['model']} bytes")
    sources = tuple(sorted(set(listed.split("|"))))
    if len(sources) > SOURCES_MAX:
        raise ValueError(f"{prefix} must have at most {SOURCES_MAX} sources")
    for source in sources:
        if _SOURCE.fullmatch(source) is None or len(source) > TEXT_BYTES_MAX["source"]:
            raise ValueError(f"{word!r}: {source!r} is no source's name, such as litellm or opentelemetry")
    return "" if prefix == EVERY_MODEL else prefix, sources


@lru_cache(maxsize=_PARSED_MAX)
def kept_rules(text: str) -> tuple[Rule, ...]:
    """The rules of a setting as the log has it. It was checked when it was made."""
    return rules_of(text)


def believed(rules: tuple[Rule, ...], model: str) -> tuple[str, ...]:
    """The sources that are believed about a model; () for all of them."""
    for prefix, sources in rules:
        if model.startswith(prefix):
            return sources
    return ()
