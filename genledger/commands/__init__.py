"""One file a verb. Each has `app`: its name, its examples, and the function that does it.

A command returns its exit code, or nothing for 0; it raises `GenledgerError` when it failed.
"""
