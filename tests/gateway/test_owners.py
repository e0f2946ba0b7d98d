"""Tokens that name the process which holds their state, and the address book that leads there."""

import attrs
import pytest
from trio.testing import MockClock

from mcp_gateway.gateway.address_book import Address, AddressBook, InputResponses, Message
from mcp_gateway.gateway.replay import Replay, ReplayBudget
from mcp_gateway.sessions.signed import DIGEST_BYTES, Purpose, SessionId, Signer
from tests.support.scripted_gateway import scripted_gateway
from tests.support.scripted_link import ScriptedBackend

SIGNER = Signer((b"0123456789abcdef",))
ID = SessionId(
    nonce=bytes(range(16)),
    version="2025-11-25",
    capabilities=frozenset(),
    principal=b"\x07" * DIGEST_BYTES,
    gateway="gw|",
    issued_unix_s=1_800_000_000,
)
ID_BEFORE = "1.AAECAwQFBgcICQoLDA0ODwAAAAAHBwcHBwcHBwAAAABrSdIAMjAyNS0xMS0yNQt1ydL8pD-fDpNh4y_wfZ4"
"""The same id as processes made it before ids could name an owner."""
STATE_BEFORE = (
    "1.eyJwIjoiYWJjIiwiciI6MSwiZSI6MTgwMDAwMDMwMCwiYiI6IjAwMTEyMjMzNDQ1NTY2Nzc4ODk5YWFiYmNjZGRlZWZmIn0"
    "akMz-mjVDtYu_naP7EvX4"
)


def test_an_id_without_an_owner_has_the_bytes_that_it_always_had() -> None:
    assert ID.encode(SIGNER) == ID_BEFORE
    assert SessionId.decode(SIGNER, "gw|", ID_BEFORE) == ID
    assert SIGNER.open(Purpose.REQUEST_STATE, "gw|", STATE_BEFORE) is not None


def test_an_id_with_an_owner_says_so_and_nothing_else_does() -> None:
    owned = attrs.evolve(ID, owner="worker-2")
    text = owned.encode(SIGNER)
    assert SessionId.decode(SIGNER, "gw|", text) == owned
    payload = SIGNER.open(Purpose.SESSION, "gw|", text)
    assert payload is not None
    for spoilt in (payload.removesuffix(b"worker-2"), payload + b"\xff"):
        assert SessionId.decode(SIGNER, "gw|", SIGNER.seal(Purpose.SESSION, "gw|", spoilt)) is None


@pytest.mark.parametrize("owner", ["", "worker-1"])
async def test_an_id_of_another_owner_is_as_unknown_as_any(autojump_clock: MockClock, owner: str) -> None:
    async with scripted_gateway(ScriptedBackend()) as where:
        where.gateway.context.sessions.owner = "worker-2"
        foreign = await where.session()
        where.gateway.context.sessions.owner = owner
        assert (await foreign.ask("ping")).status == 404
        own = await where.session()
        assert (await own.ask("ping")).result == {}


async def test_an_event_id_names_the_owner_of_its_stream() -> None:
    budget = ReplayBudget(total_bytes=100)
    mine, theirs = (Replay(budget=budget, session_bytes=100, age_s=60, owner=owner) for owner in ("a", "b"))
    plain = Replay(budget=budget, session_bytes=100, age_s=60)
    event_id = mine.open().append(b"x")
    assert event_id.startswith("a~")
    assert mine.find(event_id) is not None
    assert theirs.find(event_id) is None
    assert "~" not in plain.open().append(b"x")


async def test_a_message_goes_to_who_has_claimed_its_address_and_to_nobody_else() -> None:
    book, got = AddressBook(owner="here"), list[Message]()

    async def receive(message: Message) -> bool:
        got.append(message)
        return True

    message = InputResponses(b"{}")
    book.claim("call:1", receive)
    assert await book.deliver(Address("here", "call:1"), message)
    assert not await book.deliver(Address("there", "call:1"), message)
    assert not await book.deliver(Address("here", "call:2"), message)
    book.release("call:1")
    assert not await book.deliver(Address("here", "call:1"), message)
    assert got == [message]
