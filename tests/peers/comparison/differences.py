"""What differs between two answers, in words that a reason can be given for.

Owns the comparison: statuses, headers that matter, how many messages, and each message's bytes. Deliberately knows no
reasons. Invariant: two answers without a difference have the same results and errors, byte for byte.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from tests.peers.comparison.sides import Seen

CHANGING: Final[Mapping[str, str]] = {
    r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}": "UUID",
    r"\d{1,2}:\d\d:\d\d [AP]M": "TIME",
}
"""What is another one each time."""
SHOWN: Final = 90
"""Characters of a value in a difference."""


def compare(direct: Seen, through: Seen) -> list[str]:
    """Every difference, as one line each."""
    found = []
    if direct.status is not None and through.status is not None and direct.status != through.status:
        found.append(f"status {direct.status}, through {through.status}")
    if direct.status is not None:
        for name in sorted({*direct.headers, *through.headers}):
            ours, theirs = through.headers.get(name), direct.headers.get(name)
            if name == "mcp-session-id":
                ours, theirs = (None if value is None else "given" for value in (ours, theirs))
            if ours != theirs:
                found.append(f"{name} {theirs}, through {ours}")
    if len(direct.messages) != len(through.messages):
        names = [[kind(raw) for raw in one.messages] for one in (direct, through)]
        found.append(f"messages {names[0]}, through {names[1]}")
        return found
    for one, other in zip(direct.messages, through.messages, strict=True):
        found += differing(steady(one), steady(other))
    return found


def kind(raw: bytes) -> str:
    """What a message is, for people."""
    try:
        message = json.loads(raw)
    except ValueError:
        return "no JSON"
    if not isinstance(message, dict):
        return "no message"
    return str(message.get("method") or next((name for name in ("result", "error") if name in message), "no message"))


def steady(raw: bytes) -> bytes:
    text = raw.decode()
    for pattern, word in CHANGING.items():
        text = re.sub(pattern, word, text)
    return text.encode()


def differing(direct: bytes, through: bytes) -> Iterator[str]:
    """How two messages differ, member by member; "written anew" where only the bytes do."""
    try:
        one, other = members(direct.decode()), members(through.decode())
    except ValueError:
        if direct != through:
            yield f"body {shown(direct.decode())}, through {shown(through.decode())}"
        return
    for name in sorted({*one, *other}):
        if one.get(name) == other.get(name):
            continue
        if name not in one or name not in other:
            yield f"{name} only {'directly' if name in one else 'through'}"
            continue
        found = list(values(json.loads(one[name]), json.loads(other[name]), name))
        yield from found or [f"{name} written anew"]


def members(text: str) -> dict[str, str]:
    """The members of a JSON object and their text.

    Raises:
        ValueError: it is no object.
    """
    if not isinstance(json.loads(text), dict):
        raise ValueError("no object")
    decoder, found = json.JSONDecoder(), {}
    place = text.index("{") + 1
    while (key := re.compile(r"\s*(\"(?:[^\"\\]|\\.)*\")\s*:\s*").match(text, place)) is not None:
        _, end = decoder.raw_decode(text, key.end())
        found[json.loads(key[1])] = text[key.end() : end]
        place = end + len(re.compile(r"\s*,?").match(text, end)[0])  # type: ignore[index]  # it matches anything
    return found


def values(direct: Any, through: Any, path: str) -> Iterator[str]:  # noqa: ANN401  # any JSON
    """Where two JSON values differ."""
    if isinstance(direct, dict) and isinstance(through, dict):
        for key in [*direct, *(key for key in through if key not in direct)]:
            here = f"{path}.{key}"
            if key not in direct or key not in through:
                side, value = ("directly", direct[key]) if key in direct else ("through", through[key])
                yield f"{here} only {side}: {shown(json.dumps(value))}"
            else:
                yield from values(direct[key], through[key], here)
    elif isinstance(direct, list) and isinstance(through, list) and reordered(direct, through):
        yield f"{path} in another order"
        others = {item["name"]: item for item in through}
        for item in direct:
            yield from values(item, others[item["name"]], f"{path}[{item['name']}]")
    elif isinstance(direct, list) and isinstance(through, list) and len(direct) == len(through):
        for place, (one, other) in enumerate(zip(direct, through, strict=True)):
            yield from values(one, other, f"{path}[{place}]")
    elif isinstance(direct, list) and isinstance(through, list) and (names := named(direct, through)) is not None:
        for name in names[0] ^ names[1]:
            yield f"{path}: {name} only {'directly' if name in names[0] else 'through'}"
    elif direct != through or type(direct) is not type(through):
        yield f"{path} {shown(json.dumps(direct))}, through {shown(json.dumps(through))}"


def reordered(direct: list[Any], through: list[Any]) -> bool:
    """Whether two lists hold things of the same names, each once, in another order."""
    names = [
        [str(item["name"]) for item in items if isinstance(item, dict) and "name" in item]
        for items in (direct, through)
    ]
    whole = len(names[0]) == len(set(names[0])) == len(direct) == len(through)
    return whole and names[0] != names[1] and sorted(names[0]) == sorted(names[1])


def named(direct: list[Any], through: list[Any]) -> tuple[set[str], set[str]] | None:
    """The names of things in two lists that differ in length; None where it are no things with names."""
    found = [
        {str(item["name"]) for item in items if isinstance(item, dict) and "name" in item}
        for items in (direct, through)
    ]
    return (found[0], found[1]) if found[0] and found[1] else None


def shown(text: str) -> str:
    return text if len(text) <= SHOWN else text[:SHOWN] + "..."
