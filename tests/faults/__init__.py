"""Faults that tests bring about: real ones, and each leaves a trace that it happened."""
