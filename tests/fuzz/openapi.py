"""Requests made from the service's own OpenAPI document, and what every answer must be.

    shot = Shot(service.port, document, {"org": ["acme"]}, key)
    shot.fuzz(examples=15)             # every operation, valid and broken; raises what it found

The requests are the same in each run: hypothesis is seeded, and keeps no database.
"""

import copy
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from requests.adapters import HTTPAdapter
from schemathesis import GenerationMode, Response
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi import schemas  # noqa: F401 -- all of it now, before there are threads
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from urllib3.util import Retry

from tests.fuzz.bodies import Sent

TIMEOUT_S = 20.0
SECURITY_HEADERS = (
    "x-content-type-options",
    "x-frame-options",
    "referrer-policy",
    "content-security-policy",
    "cross-origin-resource-policy",
)
# Not among them: is all that breaks the schema refused, for the door takes more than it documents (fields
# that it does not know are dropped, and named); and is all that fits it taken, for a schema can't say what a
# good day, zone or id is.
CHECKS = [
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
LATER = (503, 507)
MODES = (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)

Known = Mapping[str, Sequence[str]]


class Shot:
    """One round: a caller, and the operations that it fuzzes: all but those named in `without`.

    `known` are values that are there, by the parameter's name: half of what only reads asks for them, and
    whatever else is called has them where `written` names it.
    """

    def __init__(
        self,
        port: int,
        document: Mapping[str, Any],
        known: Known,
        *,
        key: str = "",
        without: Sequence[str] = (),
        written: Mapping[str, Known] = {},
        bodies: Mapping[str, st.SearchStrategy[Sent]] = {},
    ) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.schema = schemathesis.openapi.from_dict(exact(document))
        self.known = known
        self.written = written
        self.bodies = bodies
        self.without = without
        self.session = requests.Session()
        # A body that is refused before it has been read ends its connection: who comes next asks anew.
        again = Retry(total=2, status=0, redirect=0, allowed_methods=None)
        self.session.mount("http://", HTTPAdapter(max_retries=again))
        self.headers = {"Authorization": f"Bearer {key}"} if key else {}
        self.statuses: Counter[tuple[str, int]] = Counter()

    def fuzz(self, examples: int, start: int = 0) -> None:
        """Every operation; what was found, of all of them."""
        found = []
        for operation in self.operations():
            for mode in (None, *MODES):
                try:
                    self._fuzz(operation, mode, examples, start)
                except Unsatisfiable:
                    assert not operation.query  # nothing of such a route can be broken
                except (Exception, FailureGroup) as error:  # noqa: BLE001 -- the others are fuzzed all the same
                    causes = getattr(error, "exceptions", ())  # of one that did not come again
                    found.append(f"{operation.label} {mode}: {type(error).__name__}: {error} {causes}")
        assert not found, "\n\n".join(found)

    def operations(self) -> Iterator[Any]:
        """Those that are fuzzed."""
        for result in self.schema.get_all_operations():
            operation = result.ok()
            if operation.label not in self.without:
                yield operation

    def _fuzz(self, operation: Any, mode: GenerationMode | None, examples: int, start: int) -> None:
        """With a mode of the document's own, or with bodies that are nearly good."""
        quietly = settings(
            max_examples=examples,
            database=None,
            deadline=None,
            phases=(Phase.generate,),
            suppress_health_check=list(HealthCheck),
        )
        if mode is None:
            if operation.label in self.bodies:
                body = self.bodies[operation.label]
                seed(start)(quietly(given(body)(lambda sent: self._post(operation, sent))))()
            return
        names = [one.name for one in (*operation.path_parameters, *operation.query)]
        read = self.known if operation.method.upper() == "GET" else {}
        known = self.written.get(operation.label, read)
        # A valid request of a named operation has them always, so that what it does is met.
        absent = (
            st.nothing() if mode is GenerationMode.POSITIVE and operation.label in self.written else st.none()
        )
        values = {name: absent | st.sampled_from(list(known[name])) for name in names if name in known}

        @seed(start)
        @quietly
        @given(operation.as_strategy(generation_mode=mode), st.fixed_dictionaries(values))
        def run(case: Any, chosen: Mapping[str, str | None]) -> None:
            for name, value in chosen.items():
                if value is not None:
                    (case.path_parameters if f"{{{name}}}" in operation.path else case.query)[name] = value
            self._check(case)

        run()

    def _post(self, operation: Any, sent: Sent) -> None:
        headers = {**self.headers, "Content-Type": sent.type}
        response = self.session.post(self.url + sent.path, data=sent.body, headers=headers, timeout=TIMEOUT_S)
        self._look(operation.Case(), Response.from_any(response))

    def _check(self, case: Any) -> None:
        """Send it as this round's caller, and look at the answer."""
        case.headers.pop("Authorization", None)
        self._look(case, case.call(self.url, session=self.session, headers=self.headers, timeout=TIMEOUT_S))

    def _look(self, case: Any, response: Response) -> None:
        self.statuses[case.operation.label, response.status_code] += 1
        headers = {name.lower(): values[0] for name, values in response.headers.items()}
        check_answer(response.status_code, headers, response.content, is_probe=case.path == "/readyz")
        case.validate_response(response, checks=CHECKS)


def exact(document: Mapping[str, Any]) -> dict[str, Any]:
    """The document with every object closed: an answer's field that it does not name is found, too."""
    closed = copy.deepcopy(dict(document))
    asked = {one.rpartition("/")[2] for one in _references(_bodies(document))}
    for name, schema in closed["components"]["schemas"].items():
        if name not in asked and schema.get("properties"):
            schema["additionalProperties"] = False
    return closed


def _bodies(document: Mapping[str, Any]) -> list[Any]:
    return [
        operation.get("requestBody") for path in document["paths"].values() for operation in path.values()
    ]


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        yield from [value["$ref"]] if "$ref" in value else []
    for each in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _references(each)


def check_answer(status: int, headers: Mapping[str, str], body: bytes, *, is_probe: bool = False) -> None:
    """What every answer is, whatever was asked. Header names are in lower case."""
    assert status < 500 or status in LATER, (status, body)
    missing = [name for name in SECURITY_HEADERS if name not in headers]
    assert not missing, (status, missing)
    assert headers["server"] == "genledger"
    assert "access-control-allow-origin" not in headers
    if status < 400 or is_probe:
        return
    assert headers["content-type"].startswith("application/json"), (status, headers)
    if status in (429, *LATER):
        assert int(headers["retry-after"]) >= 1, status
    if body:  # none where the request was a HEAD
        error = json.loads(body)["error"]
        assert set(error) == {"code", "message", "field"}, error
        assert all(isinstance(value, str) for value in error.values()), error
        assert error["code"] and error["message"], error
        assert "Traceback" not in error["message"], error
