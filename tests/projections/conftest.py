"""A fresh database for each test; the tables are made once and copied."""

import shutil

import pytest
import pytest_asyncio

from projections import schema
from projections.stores.sqlite import Database


@pytest.fixture(scope="session")
def made_tables(tmp_path_factory):
    path = tmp_path_factory.mktemp("views") / "made.db"
    schema.upgrade(path)
    return path


@pytest.fixture
def path(made_tables, tmp_path):
    return shutil.copy(made_tables, tmp_path / "genledger.db")


@pytest_asyncio.fixture
async def database(path):
    database = Database.open(path)
    yield database
    await database.close()
