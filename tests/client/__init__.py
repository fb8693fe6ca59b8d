"""The producer for Python programs, against a real service and against gateways that misbehave."""
