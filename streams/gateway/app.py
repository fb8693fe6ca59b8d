"""The application: routes, who may use them, and one shape for every answer.

    app = build(Door(log, directory, settings, now_ms, lookup, health))
    runner = Runner(app)

A request goes through `_answered` (an id, metrics, errors as JSON), then `_authorised` (who, and with what
right, and how often), then `_parameters_known`, then its handler. A webhook's handler finds out itself who
it is. Nothing of a request's content decides a metric's label.
"""

import difflib
import logging
import secrets
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware

from streams import metrics, topics
from streams.admin import Administration
from streams.clock import Clock, monotonic_s
from streams.directory import Directory
from streams.errors import LogError, ServiceUnreachable
from streams.gateway import access, body, openapi
from streams.gateway.access import Need
from streams.gateway.answers import SECURITY_HEADERS, Refusal, answer
from streams.gateway.events import Events, Road
from streams.gateway.explain import Explain, Lookup
from streams.gateway.export import Exports
from streams.gateway.intake import Intake, unavailable
from streams.gateway.limits import Limits
from streams.gateway.manual import Manual
from streams.gateway.openapi import Operation
from streams.gateway.openings import Openings
from streams.gateway.organizations import SettingsRoutes
from streams.gateway.probes import Health, Probes
from streams.gateway.rejected import Rejected
from streams.gateway.server import CONNECTIONS_MAX, escaped, handler_args
from streams.gateway.signers import Signers
from streams.gateway.webhooks import Webhooks
from streams.log.interface import Log
from streams.settings import Settings
from streams.webhook_secrets import in_force

NAME_LENGTH_MAX = 64

Needs = Mapping[tuple[str, str], Need]

_log = logging.getLogger("genledger.gateway")

# Read routes know a request's caller by plain names, so that they need nothing of this package.
warnings.filterwarnings("ignore", category=web.NotAppKeyWarning)


@dataclass(frozen=True, slots=True)
class Door:
    """What the door needs from the rest. `extra_routes` are other modules' routes, `extra_docs` theirs.

    `only` leaves of the door's own routes those that are named: a worker's port has probes, not a door.
    `elsewhere` answers for the routes it names in the door's stead: what another process knows.
    """

    log: Log
    directory: Directory
    settings: Settings
    clock: Clock
    lookup: Lookup
    health: Callable[[], Health]
    extra_routes: Sequence[web.RouteDef] = ()
    extra_docs: Sequence[Operation] = ()
    only: frozenset[str] | None = None
    elsewhere: Mapping[str, Handler] = field(default_factory=dict)

    def operations(self) -> Sequence[Operation]:
        """The door's own routes that are served."""
        return [one for one in openapi.TABLE if self.only is None or one.name in self.only]


def build(door: Door) -> web.Application:
    """The application, ready to run on a `Runner`."""
    operations = (*door.operations(), *_extra_operations(door))
    needs = {(operation.method, operation.path): operation.need for operation in operations}
    limits = Limits(door.settings.rate_per_s, door.settings.rate_burst)
    app = web.Application(
        middlewares=[_answered, _authorised(door, needs, limits), _parameters_known(operations)],
        handler_args=handler_args(door.settings),
        client_max_size=door.settings.body_bytes_max,
    )
    app[CONNECTIONS_MAX] = door.settings.connections_max
    app.on_response_prepare.append(_prepare)
    handlers = {**_handlers(door, limits, openapi.document(operations)), **door.elsewhere}
    for operation in door.operations():
        handler = handlers[operation.name]
        app.router.add_route(operation.method, operation.path, handler, expect_handler=body.not_yet)
    app.add_routes(door.extra_routes)
    return app


def administration_of(door: Door) -> Administration:
    """The one who changes settings, through the log."""
    intake = Intake(door.log, door.settings.append_timeout_s)
    return Administration(intake.append, door.directory, door.clock, door.settings.default_timezone)


async def first_key(door: Door) -> str:
    """The secret of a first administrator's key, to be shown once; '' when there are keys."""
    return await administration_of(door).first_key()


def _handlers(door: Door, limits: Limits, document: object) -> Mapping[str, Handler]:
    settings, log = door.settings, door.log
    intake = Intake(log, settings.append_timeout_s)
    room = body.Room(settings.requests_max, settings.bodies_bytes_max)
    partitions = log.partitions(topics.GENERATIONS)
    road = Road(intake, door.directory, settings, door.clock, partitions)
    events = Events(road, room, settings)
    explain = Explain(log, door.lookup, settings)
    changes = SettingsRoutes(administration_of(door), door.directory, room, settings, door.clock)
    rejected = Rejected(log, intake, room, settings)
    openings = Openings(intake, room, settings, door.clock, partitions)
    probes = Probes(door.health)

    async def described(request: web.Request) -> web.Response:
        return answer(200, document)

    return {
        "post_generations": events.post,
        "manual_record": Manual(road, room, settings).post,
        **_webhooks(door, road, room, limits),
        "explain": explain.show,
        "duplicate": explain.duplicate,
        "export_facts": Exports(log, settings).facts,
        "change_organization": changes.change_organization,
        "list_organizations": changes.list_organizations,
        "show_organization": changes.show_organization,
        "map_user": changes.map_user,
        "list_users": changes.list_users,
        "make_key": changes.make_key,
        "list_keys": changes.list_keys,
        "revoke_key": changes.revoke_key,
        "list_rejected": rejected.list,
        "show_rejected": rejected.show,
        "redrive": rejected.redrive,
        "post_openings": openings.post,
        "root": probes.root,
        "live": probes.live,
        "ready": probes.ready,
        "metrics": probes.metrics,
        "openapi": described,
    }


def _webhooks(door: Door, road: Road, room: body.Room, limits: Limits) -> Mapping[str, Handler]:
    """The webhooks' handlers; a worker's port, which has none, needs none of their secrets."""
    if not any(operation.need == "webhook" for operation in door.operations()):
        return {}
    signers = Signers(door.directory, in_force(door.settings), limits, door.settings, door.clock)
    return Webhooks(road, room, signers, door.settings).handlers()


def _extra_operations(door: Door) -> Sequence[Operation]:
    """Other modules' routes: as they document themselves, else by their handlers' docstrings and notes.

    `query` of a handler are its parameters, `documented` what else an Operation says.
    """
    documented = {(operation.method, operation.path) for operation in door.extra_docs}
    found = list(door.extra_docs)
    for route in door.extra_routes:
        if (route.method, route.path) not in documented:
            summary = (route.handler.__doc__ or route.path).strip().splitlines()[0]
            name = getattr(route.handler, "__name__", route.path)
            query = getattr(route.handler, "query", ())
            more = dict(getattr(route.handler, "documented", {}))
            need = more.pop("need", _default_need(route.method))
            found.append(Operation(name, route.method, route.path, need, summary, query, **more))
    return found


def _method_of(request: web.Request) -> str:
    """As routes are described: a HEAD is its GET, and needs the same right."""
    return hdrs.METH_GET if request.method == hdrs.METH_HEAD else request.method


def _default_need(method: str) -> Need:
    return "read" if method in (hdrs.METH_GET, hdrs.METH_HEAD) else "settings"


def _authorised(door: Door, needs: Needs, limits: Limits) -> Middleware:
    loopback = access.is_loopback(door.settings.host)

    @web.middleware
    async def authorised(request: web.Request, handler: Handler) -> web.StreamResponse:
        template = template_of(request)
        if template != metrics.OTHER:
            need = needs.get((_method_of(request), template)) or _default_need(request.method)
            caller = access.NOBODY
            if need != "webhook":
                caller = await access.admitted(request, door.directory, loopback=loopback, need=need)
            if need not in access.ASKING_NOTHING:
                limits.take(caller.key_id)
            request["caller"] = caller
            request["organization"] = caller.organization
            request["rights"] = caller.rights
            if need != "webhook":
                # A key may be revoked while a body arrives, or an answer goes on: both ask once more.
                request["still_allowed"] = lambda: access.is_standing(caller, door.directory)
        return await handler(request)

    return authorised


def _parameters_known(operations: Sequence[Operation]) -> Middleware:
    known = {(one.method, one.path): tuple(name for name, _ in one.query) for one in operations}

    @web.middleware
    async def parameters_known(request: web.Request, handler: Handler) -> web.StreamResponse:
        template = template_of(request)
        if request.query and template != metrics.OTHER:
            check_parameters(request.query, known.get((_method_of(request), template), ()))
        return await handler(request)

    return parameters_known


def check_parameters(given: Iterable[str], known: Sequence[str]) -> None:
    """Refuse the first parameter that a route does not know, with the one that was probably meant. Pure."""
    name = next((name for name in given if name not in known), None)
    if name is None:
        return
    near = [one for one in known if name and (one.startswith(name) or name.startswith(one))]
    near += difflib.get_close_matches(name[:NAME_LENGTH_MAX], known, n=1)
    advice = f"it knows {', '.join(known)}" if known else "it knows none"
    if near:
        advice = f"did you mean {near[0]}?"
    message = f"this route has no parameter {name[:NAME_LENGTH_MAX]}: {advice}"
    raise Refusal(400, "unknown_parameter", message, name)


def template_of(request: web.Request) -> str:
    """The route's template, never the path that was asked for; 'other' when there is no such route."""
    resource = request.match_info.route.resource
    return metrics.OTHER if resource is None else resource.canonical


@web.middleware
async def _answered(request: web.Request, handler: Handler) -> web.StreamResponse:
    started_s = monotonic_s()
    request["id"] = secrets.token_hex(8)
    try:
        _check_target(request)
        response = await handler(request)
    except Refusal as refusal:
        response = refusal.response()
    except web.HTTPException as error:
        response = _refusal_of(error).response()
    except (LogError, ServiceUnreachable) as error:
        _log.error("request %s to %s: %s", request["id"], template_of(request), escaped(str(error)))
        response = unavailable().response()
    except ConnectionError:
        raise
    except Exception:
        if request.get("prepared"):
            raise
        _log.exception("request %s to %s failed", request["id"], template_of(request))
        message = f"this is our fault; the log has it under {request['id']}"
        response = Refusal(500, "internal", message).response()
    metrics.observe_request(template_of(request), request.method, response.status, monotonic_s() - started_s)
    return response


def _check_target(request: web.Request) -> None:
    """A target that is not UTF-8 can't name anything of ours."""
    try:
        request.path_qs.encode()
    except UnicodeEncodeError:
        raise Refusal(400, "bad_request", "the request's target is not UTF-8") from None


def _refusal_of(error: web.HTTPException) -> Refusal:
    if error.status == 404:
        return Refusal(404, "not_found", "there is no such route")
    if error.status == 405:
        headers = {"Allow": error.headers.get("Allow", "")}
        return Refusal(405, "method_not_allowed", "this route does not know that method", headers=headers)
    return Refusal(error.status, "http", escaped(error.reason or ""))


async def _prepare(request: web.Request, response: web.StreamResponse) -> None:
    """Headers of every answer, streamed ones too."""
    request["prepared"] = True
    response.headers["X-Request-Id"] = request.get("id", "")
    response.headers["Server"] = "genledger"
    for name, value in SECURITY_HEADERS.items():
        response.headers.setdefault(name, value)
