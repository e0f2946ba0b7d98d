"""The condition that says on a Gateway's listener which extension uses it.

Owns that condition. Deliberately waits for nothing: where an implementation has written no entry for a listener there
is nothing to mark, and nothing depends on the mark. Invariants: the other conditions of an entry stay as they came; a
mark names the instance that made it, and no other instance changes it as long as that one uses the listener.
"""

from collections.abc import Mapping
from typing import Final

from mcp_gateway.kube import schema
from mcp_gateway.kube.gateway_api import Gateway
from mcp_gateway.kube.objects import Key
from mcp_gateway.kube.reconcile.claims import Claim, claims
from mcp_gateway.kube.reconcile.conditions import Now, Reason, Verdict, conditions_after, good
from mcp_gateway.kube.reconcile.outcome import ListenerMark
from mcp_gateway.kube.store import Store
from mcp_gateway.values import JsonObject, JsonValue

_IN_USE: Final = "listener in use by MCP Gateway"


def marks(view: Store, extension: Key, now: Now) -> tuple[ListenerMark, ...]:
    """Every listener whose mark of one extension, whether it exists or not, is not as it should be."""
    claim = view.once(claims).get(extension)
    scope, message = _scope(view, claim), f"{_opening(view)}{extension}"
    verdict = good(Reason.PROGRAMMED, message)
    made = []
    for gateway in view.gateways():
        for entry in gateway.listener_status:
            if (gateway.meta.key, entry.get("name")) in scope:
                made.append(_mark(gateway, entry, {schema.LISTENER_CONDITION: verdict}, now))
            elif any(one.get("message") == message for one in _marks(entry)):
                made.append(_mark(gateway, entry, {}, now))
    return tuple(one for one in made if one is not None)


def marked(view: Store) -> tuple[Key, ...]:
    """The extensions that marks of this instance name, whether they still exist or not."""
    messages = [
        str(one.get("message"))
        for gateway in view.gateways()
        for entry in gateway.listener_status
        for one in _marks(entry)
    ]
    opening = _opening(view)
    named = (message.removeprefix(opening).partition("/") for message in messages if message.startswith(opening))
    return tuple(dict.fromkeys(Key(namespace, name) for namespace, _, name in named))


def _scope(view: Store, claim: Claim | None) -> set[tuple[Key, JsonValue]]:
    if claim is None or not claim.serves or claim.extension.instance != view.settings.instance:
        return set()
    return {(claim.extension.gateway, listener.name) for listener in claim.listeners}


def _opening(view: Store) -> str:
    """How the message of our marks begins; the rest of it is the extension."""
    instance = view.settings.instance
    return f"{_IN_USE}: " if instance == schema.DEFAULT_INSTANCE else f"{_IN_USE} {instance}: "


def _conditions(entry: JsonObject) -> list[JsonObject]:
    found = entry.get("conditions")
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def _marks(entry: JsonObject) -> list[JsonObject]:
    """Of whichever instance; there is room for one."""
    return [one for one in _conditions(entry) if one.get("type") == schema.LISTENER_CONDITION]


def _mark(gateway: Gateway, entry: JsonObject, verdicts: Mapping[str, Verdict], now: Now) -> ListenerMark | None:
    wanted = conditions_after(entry, verdicts, gateway.meta.generation, now)
    before = _marks(entry)
    if before == wanted:
        return None
    others = [one for one in _conditions(entry) if one not in before]
    return ListenerMark(
        gateway=gateway.meta.key,
        resource_version=gateway.meta.resource_version,
        listener=str(entry.get("name")),
        conditions=(*others, *wanted),
    )
