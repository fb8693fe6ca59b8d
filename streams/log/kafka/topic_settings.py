"""Changing single settings of topics: the request that aiokafka does not have.

    response = await client.send(node, AlterTopics({"usage": {"retention.ms": "-1"}}))

The older request that it does have replaces every setting of a topic, and with them what someone else set
a moment ago. Kafka has had this one since 2.3 (IncrementalAlterConfigs).
"""

from collections.abc import Mapping

from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import Array, Boolean, Int8, Int16, Int32, Schema, String

INCREMENTAL_ALTER_CONFIGS = 44
TOPIC = 2
SET = 0

Changes = Mapping[str, Mapping[str, str]]


class AlterTopicsResponse(Response):
    """What became of each topic's changes."""

    API_KEY = INCREMENTAL_ALTER_CONFIGS
    API_VERSION = 0
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "resources",
            Array(
                ("error_code", Int16),
                ("error_message", String("utf-8")),
                ("resource_type", Int8),
                ("resource_name", String("utf-8")),
            ),
        ),
    )


class AlterTopicsRequest(RequestStruct):
    """As it goes over the wire."""

    API_KEY = INCREMENTAL_ALTER_CONFIGS
    API_VERSION = 0
    RESPONSE_TYPE = AlterTopicsResponse
    SCHEMA = Schema(
        (
            "resources",
            Array(
                ("resource_type", Int8),
                ("resource_name", String("utf-8")),
                (
                    "configs",
                    Array(("name", String("utf-8")), ("operation", Int8), ("value", String("utf-8"))),
                ),
            ),
        ),
        ("validate_only", Boolean),
    )


class AlterTopics(Request[AlterTopicsRequest]):
    """Values by setting by topic; of a topic all are changed, or none."""

    API_KEY = INCREMENTAL_ALTER_CONFIGS

    def __init__(self, changes: Changes) -> None:
        self._changes = changes

    def build(self, request_struct_class: type[AlterTopicsRequest]) -> AlterTopicsRequest:
        resources = [
            (TOPIC, name, [(setting, SET, value) for setting, value in values.items()])
            for name, values in self._changes.items()
        ]
        return request_struct_class(resources, False)
