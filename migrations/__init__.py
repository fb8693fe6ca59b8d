"""The views' tables, made by Alembic revisions only. `projections/schema.py` runs them, without an alembic.ini."""
