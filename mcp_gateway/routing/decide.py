"""What to do with one request, from one view.

Owns the decision alone: forward, answer, or refuse. Deliberately does not wait,
seal cursors or touch sessions. Invariant: it never fails, and a hidden name and an
unknown name give the same ``Refuse``: the caller must not learn which names exist.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final, TypeAlias

import attrs

from mcp_gateway.protocol import extensions, methods, splice, tasks
from mcp_gateway.protocol.eras import Era
from mcp_gateway.protocol.splice import Edits
from mcp_gateway.protocol.wire_errors import INVALID_PARAMS, METHOD_NOT_FOUND, MISSING_CAPABILITY, RESOURCE_NOT_FOUND
from mcp_gateway.routing.custom import owner_of, task_target
from mcp_gateway.routing.listing_views import Target
from mcp_gateway.routing.snapshot import Kind
from mcp_gateway.routing.table import View
from mcp_gateway.sessions.task_ids import TaskRef
from mcp_gateway.values import JsonObject, JsonValue, Params

_SHOWN: Final = 128
"""Characters of an unknown name that an error repeats."""
_NO_EDITS: Final[Edits] = MappingProxyType({})
_LISTS: Final = MappingProxyType(
    {
        "tools/list": Kind.TOOLS,
        "prompts/list": Kind.PROMPTS,
        "resources/list": Kind.RESOURCES,
        "resources/templates/list": Kind.TEMPLATES,
    }
)
_NOTHING: Final[JsonObject] = {}
_NO_OWNER: Final = (
    "its params name no tool, prompt, resource or task that is shown here, and there is not exactly one server with an "
    "extension that the client declares, too"
)
NO_SUBSCRIPTIONS: Final = "Method not found: the server of this resource has no subscriptions"
NO_TASK: Final = "Task not found"
_NO_COMPLETION: Final = b'{"completion":{"values":[],"total":0,"hasMore":false}}'


@attrs.frozen(kw_only=True)
class Forward:
    """Send it to the target's backend, with these edits made to ``params``."""

    target: Target
    edits: Edits = _NO_EDITS


@attrs.frozen(kw_only=True)
class ListOf:
    """Answer from ``View.page``; ``cursor`` is still sealed, None asks for the beginning."""

    kind: Kind
    cursor: str | None = None


@attrs.frozen(kw_only=True)
class Own:
    """A method of the gateway itself, its params checked (but a cursor): initialize, server/discover,
    subscriptions/listen, logging/setLevel, tasks/list."""

    method: str


@attrs.frozen(kw_only=True)
class Answer:
    """Answer at once with this raw result (of the legacy form; ``translate.result`` makes it modern)."""

    result: bytes


@attrs.frozen(kw_only=True)
class Refuse:
    """Answer with a JSON-RPC error."""

    code: int
    message: str
    data: JsonValue = None


Decision: TypeAlias = Forward | ListOf | Own | Answer | Refuse


def decide(
    method: str,
    params: Params,
    view: View,
    era: Era,
    capabilities: JsonObject = _NOTHING,
    task: TaskRef | None = None,
) -> Decision:
    """Say what to do with one request.

    Args:
        params: as parsed; absent params are ``{}``.
        view: what this caller may see.
        era: the caller's.
        capabilities: the caller's, as it declared them.
        task: what ``params.taskId`` means, if it is the id of a task of this caller's.
    """
    if not methods.known(method, era):
        return _custom(method, params, view, capabilities, task)
    if method in _LISTS:
        return _list(_LISTS[method], params)
    rule = _RULES.get(method)
    if rule is not None:
        return rule(params, view, era)
    if era.modern and method.startswith("tasks/"):
        return _about_modern_task(method, params, view, capabilities, task)
    return _about_task(method, params, view, task) if method in methods.TASK_METHODS else Own(method=method)


def _about_task(method: str, params: Params, view: View, task: TaskRef | None) -> Decision:
    """Tasks of 2025-11-25. An id that is forged, another client's or of a server that is not shown here is unknown."""
    target = None if task is None else task_target(task, params, view)
    if target is not None and method != "tasks/list":
        return _forward("taskId", target)
    if not view.some_server(tasks.CALLS):
        return _no_tasks(method)
    return Own(method=method) if method == "tasks/list" else _unknown_task(params)


def _about_modern_task(
    method: str, params: Params, view: View, capabilities: JsonObject, task: TaskRef | None
) -> Decision:
    """The tasks extension of 2026-07-28; an unknown id is acknowledged where the answer says nothing anyway."""
    target = None if task is None else task_target(task, params, view)
    if target is None and not view.some_server(tasks.OFFERED):
        return _no_tasks(method)
    # "Servers MUST return this error for non-declaring clients issuing tasks/get, tasks/update, and tasks/cancel"
    if tasks.EXTENSION not in extensions.declared(capabilities):
        return Refuse(code=MISSING_CAPABILITY, message="the client lacks the tasks extension", data=tasks.REQUIRED)
    if target is not None:
        return _forward("taskId", target)
    unknown = _unknown_task(params)
    return Answer(result=b"{}") if unknown.message == NO_TASK and method != "tasks/get" else unknown


def _no_tasks(method: str) -> Refuse:
    return Refuse(code=METHOD_NOT_FOUND, message=f"method not found: {method}: no server here has tasks")


def _unknown_task(params: Params) -> Refuse:
    return _bad(NO_TASK if isinstance(params.get("taskId"), str) else "params.taskId must be a string")


def _custom(method: str, params: Params, view: View, capabilities: JsonObject, task: TaskRef | None) -> Decision:
    """A method that is not core: to its owner, if it has one that this caller can see."""
    tail = ""
    if extensions.is_custom(method):
        owned = owner_of(params, view, extensions.declared(capabilities), task)
        if owned is not None:
            return Forward(target=owned[0], edits=owned[1])
        tail = f": {_NO_OWNER}"
    return Refuse(code=METHOD_NOT_FOUND, message=f"method not found: {method[:_SHOWN]}{tail}")


def _bad(what: str) -> Refuse:
    return Refuse(code=INVALID_PARAMS, message=what)


def _list(kind: Kind, params: Params) -> Decision:
    cursor = params.get("cursor")
    if cursor is not None and not isinstance(cursor, str):
        return _bad("params.cursor must be a string")
    return ListOf(kind=kind, cursor=cursor)


def _ping(params: Params, view: View, era: Era) -> Decision:
    return Answer(result=b"{}")


def _set_level(params: Params, view: View, era: Era) -> Decision:
    if params.get("level") not in methods.LOG_LEVELS:
        return _bad(f"params.level must be one of {', '.join(methods.LOG_LEVELS)}")
    return Own(method="logging/setLevel")


def _named(member: str, target: Target) -> Edits:
    """The edit that gives the backend its own name; none when it is the same."""
    return _NO_EDITS if target.upstream == target.federated else {member: splice.quoted(target.upstream)}


def _call_tool(params: Params, view: View, era: Era) -> Decision:
    name = params.get("name")
    if not isinstance(name, str):
        return _bad("params.name must be a string")
    known = view.forwards.get(name)
    if known is not None:
        return known
    target = view.find_tool(name)
    # "Unknown tools: -32602" -- MCP server/tools, Error Handling
    if target is None:
        return _bad(f"Unknown tool: {name[:_SHOWN]}")
    if target.only_as_task and era.modern and not view.lacks(target.backend, tasks.CALLS):
        return _bad(tasks.NOT_BRIDGED)
    decision = _forward("name", target)
    if not target.only_as_task:  # else it depends on who asks
        view.forwards[name] = decision
    return decision


def _get_prompt(params: Params, view: View, era: Era) -> Decision:
    name = params.get("name")
    if not isinstance(name, str):
        return _bad("params.name must be a string")
    target = view.find_prompt(name)
    return _bad(f"Unknown prompt: {name[:_SHOWN]}") if target is None else _forward("name", target)


def _forward(member: str, target: Target) -> Forward:
    return Forward(target=target, edits=_named(member, target))


def _about_resource(params: Params, view: View, era: Era) -> Decision:
    uri = params.get("uri")
    if not isinstance(uri, str):
        return _bad("params.uri must be a string")
    target = view.resolve_uri(uri)
    return _not_found(uri, era) if target is None else _forward("uri", target)


def _subscription(params: Params, view: View, era: Era) -> Decision:
    decision = _about_resource(params, view, era)
    if isinstance(decision, Forward) and view.lacks(decision.target.backend, "resources.subscribe"):
        return Refuse(code=METHOD_NOT_FOUND, message=NO_SUBSCRIPTIONS)
    return decision


def _not_found(uri: str, era: Era) -> Refuse:
    # Modern: -32602 with data.uri, and -32002 MUST NOT be emitted; legacy: -32002 (server/resources, Error Handling).
    code = INVALID_PARAMS if era.modern else RESOURCE_NOT_FOUND
    return Refuse(code=code, message="Resource not found", data={"uri": uri})


def _complete(params: Params, view: View, era: Era) -> Decision:
    ref = params.get("ref")
    if not isinstance(ref, dict):
        return _bad("params.ref must be an object")
    name, uri = ref.get("name"), ref.get("uri")
    match ref.get("type"):
        case "ref/prompt" if isinstance(name, str):
            target = view.find_prompt(name)
            missing, member = _bad(f"Unknown prompt: {name[:_SHOWN]}"), "name"
        case "ref/resource" if isinstance(uri, str):
            target = view.find_template(uri) or view.resolve_uri(uri)
            missing, member = _not_found(uri, era), "uri"
        case _:
            return _bad("params.ref must be a ref/prompt with a name or a ref/resource with a uri")
    if target is None:
        return missing
    if view.lacks(target.backend, "completions"):
        return Answer(result=_NO_COMPLETION)
    edits = _named(member, target)
    return Forward(target=target, edits={"ref": edits} if edits else _NO_EDITS)


_RULES: Final[Mapping[str, Callable[[Params, View, Era], Decision]]] = MappingProxyType(
    {
        "ping": _ping,
        "tools/call": _call_tool,
        "prompts/get": _get_prompt,
        "resources/read": _about_resource,
        "resources/subscribe": _subscription,
        "resources/unsubscribe": _subscription,
        "completion/complete": _complete,
        "logging/setLevel": _set_level,
    }
)
