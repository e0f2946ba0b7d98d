"""A route as data: which of its rules leads to the server, and what that rule does to a request.

Owns the precedence of rules and the filters that are honoured. Deliberately looks nothing up. Invariant: what a rule
asks for and the gateway cannot do is refused by name, except what only adorns, which is said.

Gateway API v1: HTTPRouteMatch (precedence), HTTPRouteFilter, HTTPRouteTimeouts; GEP-2257 for durations.
"""

import re
from collections.abc import Sequence
from typing import Final

import attrs

from mcp_gateway.config.headers import refusal
from mcp_gateway.kube.gateway_api import BackendRef, Filter, HTTPRoute, Match, Rule
from mcp_gateway.kube.reconcile.conditions import Reason, Verdict, bad

MAX_PATTERN_CHARACTERS: Final = 256
MAX_REPEATS: Final = 2
MAX_TIMEOUT_MS: Final = 365 * 86_400_000
"""The longest that a configuration may say."""

_HARMLESS: Final = frozenset({"ResponseHeaderModifier", "RequestMirror", "CORS"})
_REPEAT: Final = re.compile(r"(?<!\\)[*+{]")
_COSTLY: Final = re.compile(r"\)[*+?{]|\(\?|\\[0-9]|[*+}][*+{]")
_DOUBTFUL: Final = re.compile(r"\[\[|--|&&|~~|\|\|")
"""What Python warns of because it may mean something else one day."""
_PART: Final = re.compile(r"([0-9]{1,5})(h|ms|m|s)")
_WORDS: Final = (
    ("use credential", "use spec.credentialRef"),
    ("use connect to dial another address", "use filter URLRewrite for another name"),
)
"""What the file of a configuration calls otherwise."""
_MILLISECONDS: Final = {"h": 3_600_000, "m": 60_000, "s": 1000, "ms": 1}


@attrs.frozen(kw_only=True)
class Choice:
    """The rule that leads to the server, in the gateway's own terms."""

    backend: BackendRef
    path: str
    host: str = ""
    """What the rule calls the server; empty: its own name."""
    headers: tuple[tuple[str, str], ...] = attrs.field(default=(), repr=False)
    removed_headers: frozenset[str] = frozenset()
    """Lower case."""
    timeout_ms: int | None = None
    notes: tuple[str, ...] = ()


def choose(route: HTTPRoute, path: str) -> Choice | Verdict:
    """The rule that Gateway API picks for POST ``path``; a Verdict says why there is none to be used."""
    found = _rule(route, path)
    if isinstance(found, Verdict):
        return found
    rule, match = found
    who = f"HTTPRoute {route.meta.key}"
    live = [backend for backend in rule.backends if backend.weight > 0]
    if len(live) != 1:
        names = ", ".join(str(backend.key) for backend in live)
        what = f"has several backends ({names}); an MCP server is one" if live else "has no backend references"
        return _unsupported(f"{who}: the rule for {path} {what}; name exactly one backendRef with a weight above 0")
    choice = Choice(backend=live[0], path=path, timeout_ms=_timeout_ms(rule.request_timeout))
    return _filtered(choice, (*rule.filters, *live[0].filters), match, who)


def _unsupported(why: str) -> Verdict:
    return bad(Reason.UNSUPPORTED_VALUE, why)


# --- which rule ------------------------------------------------------------------------------------------------------


def _rule(route: HTTPRoute, path: str) -> tuple[Rule, Match] | Verdict:
    ranked = []
    for order, rule in enumerate(route.rules):
        for match in rule.matches:
            rank = None if match.narrowed or match.method not in ("", "POST") else _rank(match, path)
            if rank is not None:
                ranked.append((*rank, match.method == "POST", -order, rule, match))
    if ranked:
        best = max(ranked, key=lambda one: one[:4])
        return best[4], best[5]
    costly = [one.path for rule in route.rules for one in rule.matches if _is_refused_pattern(one)]
    hint = f"; the regular expression {costly[0]} is too costly to try, use PathPrefix or Exact" if costly else ""
    return _unsupported(
        f"HTTPRoute {route.meta.key} has no rule for POST {path} that looks at nothing but the path; "
        f"add one or correct spec.path{hint}"
    )


def _rank(match: Match, path: str) -> tuple[int, int] | None:
    """How well a path is matched: Exact, then the longest prefix, then a regular expression."""
    plain = path.partition("?")[0]
    match match.path_type:
        case "Exact":
            return (3, len(match.path)) if plain == match.path else None
        case "PathPrefix":
            # "/abc" matches "/abc", "/abc/" and "/abc/d", but not "/abcd".
            prefix = match.path.rstrip("/")
            return (2, len(prefix)) if plain == prefix or plain.startswith(f"{prefix}/") else None
        case "RegularExpression":
            return (1, len(match.path)) if not _is_costly(match.path) and _fits(match.path, plain) else None
        case _:
            return None


def _is_refused_pattern(match: Match) -> bool:
    return match.path_type == "RegularExpression" and _is_costly(match.path)


def _is_costly(pattern: str) -> bool:
    """Users write these: one that backtracks would stop the controller for everyone."""
    if len(pattern) > MAX_PATTERN_CHARACTERS or len(_REPEAT.findall(pattern)) > MAX_REPEATS:
        return True
    return _COSTLY.search(pattern) is not None or _DOUBTFUL.search(pattern) is not None


def _fits(pattern: str, path: str) -> bool:
    try:
        return re.fullmatch(pattern, path) is not None
    except (re.error, OverflowError, RecursionError):
        return False


# --- what the rule does ----------------------------------------------------------------------------------------------


def _filtered(choice: Choice, filters: Sequence[Filter], match: Match, who: str) -> Choice | Verdict:
    headers: dict[str, tuple[str, str]] = {}
    removed: set[str] = set()
    host, path, notes = "", choice.path, list(choice.notes)
    for one in filters:
        if one.type == "RequestHeaderModifier":
            for name, value in one.set_headers:
                why = header_refusal(name)
                if why is not None:
                    return _unsupported(f"{who}: filter RequestHeaderModifier: {why}; remove it from the filter")
                headers[name.lower()] = (name, value)
            removed.update(name.lower() for name in one.removed_headers)
        elif one.type == "URLRewrite":
            host, path = one.hostname or host, _rewritten(path, one, match)
        elif one.type in _HARMLESS:
            notes.append(f"filter {one.type} of {who} is ignored")
        else:
            return _unsupported(f"{who}: filter {one.type} is not supported for an MCP server; remove it from the rule")
    kept = tuple(pair for name, pair in headers.items() if name not in removed)
    return attrs.evolve(
        choice, path=path, host=host, headers=kept, removed_headers=frozenset(removed), notes=tuple(notes)
    )


def header_refusal(name: str) -> str | None:
    """Why a header may be neither set nor let through, in the words of the cluster; None: it may."""
    why = refusal(name)
    if why is None:
        return None
    for word, here in _WORDS:
        why = why.replace(word, here)
    return why


def _rewritten(path: str, one: Filter, match: Match) -> str:
    plain, mark, query = path.partition("?")
    if one.path_type == "ReplaceFullPath":
        return f"{one.path or '/'}{mark}{query}"
    if one.path_type == "ReplacePrefixMatch" and match.path_type == "PathPrefix":
        rest = plain[len(match.path.rstrip("/")) :]
        made = f"{one.path.rstrip('/')}{rest}"
        return f"{made or '/'}{mark}{query}"
    return path


def _timeout_ms(text: str) -> int | None:
    """A duration of GEP-2257 such as 1h30m; None for none, and for 0s, which means no limit of the route's."""
    parts = _PART.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        return None
    return min(sum(int(number) * _MILLISECONDS[unit] for number, unit in parts), MAX_TIMEOUT_MS) or None
