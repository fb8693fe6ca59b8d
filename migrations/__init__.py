"""The views' tables, by Alembic revisions only. `projections/schema.py` runs them, without an alembic.ini."""
