"""A fresh database of the views for each test, as the views' own tests have it."""

from tests.projections.conftest import database, made_tables, path

__all__ = ["database", "made_tables", "path"]
