"""The total order of the versions of one generation.

The same id may be told many times: by a webhook, by the sync, by an administrator. The greatest version
is the winner, so the result does not depend on the order, number or batching of deliveries:

    (cost known or void, authority, revision, void, total tokens, cost, content)

What is absent counts as lowest: a version without a cost never replaces one that has it. Equal content
under equal rank is the same version: a duplicate.
"""

from hashlib import blake2b

import msgspec

from streams.generation import AUTHORITIES, Generation

AUTHORITY_RANK = {name: rank for rank, name in enumerate(AUTHORITIES)}

Rank = tuple[bool, int, int, bool, int, int]


def rank_of(event: Generation) -> Rank:
    """What decides between two versions before their content does."""
    cost_nano = event.cost_nano
    revision = event.revision
    return (
        cost_nano is not None or event.void,
        AUTHORITY_RANK[event.authority],
        -1 if revision is None else revision,
        event.void,
        event.total_tokens,
        -1 if cost_nano is None else cost_nano,
    )


def content_of(event: Generation) -> tuple[object, ...]:
    """Every field that a view may show. Metadata is nobody's figure and stays out."""
    return (
        event.user,
        event.model,
        event.provider,
        event.prompt_tokens,
        event.completion_tokens,
        event.total_tokens,
        event.cost_nano,
        event.created_ns,
        event.source,
        event.reasoning_tokens,
        event.cached_tokens,
        event.upstream_cost_nano,
        event.is_byok,
        event.latency_ms,
        event.finish_reason,
        event.session,
    )


def content_hash(event: Generation) -> bytes:
    """The last word between two versions of one rank: any order would do, as long as it is one."""
    return blake2b(msgspec.json.encode(content_of(event)), digest_size=16).digest()


def compare(left: Generation, right: Generation) -> int:
    """Negative, zero or positive as `left` is lower, equal to or higher than `right`."""
    left_rank, right_rank = rank_of(left), rank_of(right)
    if left_rank != right_rank:
        return 1 if left_rank > right_rank else -1
    if content_of(left) == content_of(right):
        return 0
    return 1 if content_hash(left) > content_hash(right) else -1
