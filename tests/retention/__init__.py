"""Retention: ids are forgotten, totals never."""
