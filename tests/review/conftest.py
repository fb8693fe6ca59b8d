"""The views' fixtures, for this folder too."""

from tests.projections.conftest import database, made_tables, path

__all__ = ["database", "made_tables", "path"]
