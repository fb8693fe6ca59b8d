"""The tests: each one's docstring is one sentence of behaviour that a user can count on."""
