"""The road from a legacy database: a file of the seeds' tables, and what must come of it."""
