"""Task ids: whose they are, and for whom they open."""

import attrs
import pytest

from mcp_gateway.protocol.eras import Family
from mcp_gateway.sessions.signed import Purpose, Signer
from mcp_gateway.sessions.task_ids import TaskOwner, TaskRef, read, seal, session_digest
from mcp_gateway.values import BackendKey

SIGNER = Signer((b"k" * 16,))
OWNER = TaskOwner(realm="g|", family=Family.LEGACY, principal=b"\0" * 8, session=session_digest("abc"))
TASK = TaskRef(server=BackendKey("ns/files"), upstream='786512e2-"\u00fc')


def test_an_id_opens_for_its_owner_and_is_always_the_same() -> None:
    token = seal(SIGNER, OWNER, TASK)
    assert read(SIGNER, OWNER, token) == TASK
    assert seal(SIGNER, OWNER, TASK) == token
    assert token.isascii()
    assert not any(character.isspace() for character in token)


@pytest.mark.parametrize(
    "change",
    [
        {"realm": "other|"},
        {"family": Family.MODERN},
        {"principal": b"\1" * 8},
        {"session": session_digest("abd")},
        {"session": ""},
        {"shared_with": "team"},
    ],
)
def test_for_nobody_else(change: dict[str, object]) -> None:
    assert read(SIGNER, attrs.evolve(OWNER, **change), seal(SIGNER, OWNER, TASK)) is None  # type: ignore[arg-type]  # a change


def test_nothing_else_opens() -> None:
    token = seal(SIGNER, OWNER, TASK)
    cursor = SIGNER.seal(Purpose.CURSOR, OWNER.realm, b"[]")
    odd = SIGNER.seal(Purpose.TASK, OWNER.realm, b"7")
    for forged in ("", "1.", token[:-1], token + "A", TASK.upstream, cursor, odd):
        assert read(SIGNER, OWNER, forged) is None
    assert read(Signer((b"j" * 16,)), OWNER, token) is None
    assert read(Signer((b"j" * 16, b"k" * 16)), OWNER, token) == TASK


def test_it_says_nothing_that_leads_to_the_session() -> None:
    assert "abc" not in session_digest("abc")
    assert session_digest("abc") != session_digest("abd")
