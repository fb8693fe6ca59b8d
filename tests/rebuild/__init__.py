"""Replay and prove, on a real service with Road's traffic, or on small logs made by hand."""
