"""Findings of a review: each test fails for as long as its finding stands."""
