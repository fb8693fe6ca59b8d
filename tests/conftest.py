"""What every test module may use."""

pytest_plugins = ["tests.kafka.fixtures", "tests.road.fixtures"]
