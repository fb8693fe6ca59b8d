"""The rows of organisations and of the user mapping: settings overwrite, the time of making only falls.

`summaries` makes a row for an organisation on first sight. Whichever of the two comes first, the row is
the same in the end.
"""

import sqlite3
from collections.abc import Iterator

from projections.organizations import Changes
from projections.stores.pieces import pieces
from streams.organizations import row_id

_ORGANIZATION = """INSERT INTO client_organizations
    (id, name, openrouter_api_key, openrouter_key_hash, markup_rate_text, monthly_limit_text,
    billing_email, timezone, is_active, created_at, updated_at, has_settings)
    VALUES (?,?,?,?,?,?,?,?,?,?,?,1) ON CONFLICT (id) DO UPDATE SET
    name = excluded.name, openrouter_api_key = excluded.openrouter_api_key,
    openrouter_key_hash = excluded.openrouter_key_hash, markup_rate_text = excluded.markup_rate_text,
    monthly_limit_text = excluded.monthly_limit_text, billing_email = excluded.billing_email,
    timezone = excluded.timezone, is_active = excluded.is_active,
    created_at = min(created_at, excluded.created_at), updated_at = excluded.updated_at, has_settings = 1"""
_USER = """INSERT INTO user_client_mapping
    (id, client_org_id, openrouter_user_id, user_id, is_active, created_at, updated_at)
    VALUES (?,?,?,?,?,?,?) ON CONFLICT (id) DO UPDATE SET
    user_id = excluded.user_id, is_active = excluded.is_active,
    created_at = excluded.created_at, updated_at = excluded.updated_at"""


def write(connection: sqlite3.Connection, _partition: int, changes: Changes) -> Iterator[None]:
    """Bring the rows forward, in bounded pieces of the caller's transaction."""
    for organizations in pieces(changes.organizations.values()):
        connection.executemany(
            _ORGANIZATION,
            [
                (
                    row.id,
                    row.name,
                    row.key_reference,
                    row.key_hash,
                    row.markup,
                    row.monthly_limit,
                    row.billing_email,
                    row.timezone,
                    row.active,
                    row.created_s,
                    row.updated_s,
                )
                for row in organizations
            ],
        )
        yield
    for users in pieces(changes.users.values()):
        connection.executemany(
            _USER,
            [
                (
                    row_id(row.organization, row.user),
                    row.organization,
                    row.user,
                    row.user_id,
                    row.active,
                    row.created_s,
                    row.updated_s,
                )
                for row in users
            ],
        )
        yield
