"""Tokens: what opens, and above all what does not."""

import string

import attrs
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from mcp_gateway.errors import LocalFault
from mcp_gateway.protocol.capabilities import NAMES
from mcp_gateway.protocol.eras import ERAS
from mcp_gateway.sessions.signed import (
    MAX_ID_CHARS,
    Purpose,
    SessionId,
    Signer,
)

SIGNER = Signer((b"first key", b"second key"))
ID = SessionId(
    nonce=b"n" * 16,
    version="2025-11-25",
    capabilities=frozenset({"roots", "elicitation", "elicitation.url"}),
    principal=b"p" * 8,
    gateway="mcp-test/mcp-extension",
    issued_unix_s=1_790_000_000,
)

payloads = st.binary(max_size=100)
purposes = st.sampled_from(Purpose)
gateways = st.text(alphabet=string.ascii_lowercase + "/-", max_size=30)


@given(purpose=purposes, gateway=gateways, payload=payloads)
def test_what_was_sealed_opens(purpose: Purpose, gateway: str, payload: bytes) -> None:
    token = SIGNER.seal(purpose, gateway, payload)
    assert token.startswith("1.")
    assert set(token) <= set(string.ascii_letters + string.digits + "-_.")
    assert SIGNER.open(purpose, gateway, token) == payload


@given(purpose=purposes, other=purposes, payload=payloads)
def test_a_token_of_one_purpose_is_none_of_another(purpose: Purpose, other: Purpose, payload: bytes) -> None:
    assume(purpose is not other)
    assert SIGNER.open(other, "g", SIGNER.seal(purpose, "g", payload)) is None


@given(gateway=gateways, other=gateways, payload=payloads)
def test_a_token_of_one_gateway_is_none_of_another(gateway: str, other: str, payload: bytes) -> None:
    assume(gateway != other)
    assert SIGNER.open(Purpose.SESSION, other, SIGNER.seal(Purpose.SESSION, gateway, payload)) is None


def test_gateway_and_payload_cannot_be_shifted_into_each_other() -> None:
    one = SIGNER.seal(Purpose.CURSOR, "ab", b"c")
    two = SIGNER.seal(Purpose.CURSOR, "a", b"bc")
    assert one[-22:] != two[-22:]


@given(payload=payloads, at=st.integers(0, 500), letter=st.characters())
def test_no_changed_letter_is_accepted(payload: bytes, at: int, letter: str) -> None:
    token = SIGNER.seal(Purpose.SESSION, "", payload)
    changed = token[: at % len(token)] + letter + token[at % len(token) + 1 :]
    assume(changed != token)
    assert SIGNER.open(Purpose.SESSION, "", changed) is None


@given(payload=payloads, cut=st.integers(0, 500), tail=st.text(max_size=5))
def test_no_shortened_or_lengthened_token_is_accepted(payload: bytes, cut: int, tail: str) -> None:
    token = SIGNER.seal(Purpose.SESSION, "", payload)
    changed = token[: cut % (len(token) + 1)] + tail
    assume(changed != token)
    assert SIGNER.open(Purpose.SESSION, "", changed) is None


@given(token=st.text(max_size=300) | st.text(max_size=300).map("1.".__add__))
def test_nothing_made_up_is_accepted_and_nothing_raises(token: str) -> None:
    assert SIGNER.open(Purpose.SESSION, "", token) is None
    assert SessionId.decode(SIGNER, "", token) is None


def test_the_first_key_signs_and_all_of_them_verify() -> None:
    old, new = Signer((b"old",)), Signer((b"new", b"old"))
    token = old.seal(Purpose.EVENT, "g", b"payload")
    assert new.open(Purpose.EVENT, "g", token) == b"payload"
    assert old.open(Purpose.EVENT, "g", new.seal(Purpose.EVENT, "g", b"payload")) is None


@pytest.mark.parametrize("keys", [pytest.param((), id="none"), pytest.param((b"a", b""), id="an empty one")])
def test_a_signer_needs_keys(keys: tuple[bytes, ...]) -> None:
    with pytest.raises(LocalFault):
        Signer(keys)


def test_a_signer_does_not_show_its_keys() -> None:
    assert repr(SIGNER) == "Signer()"


@pytest.mark.parametrize("version", ERAS)
def test_a_session_id_comes_back_as_it_was(version: str) -> None:
    session_id = attrs.evolve(ID, version=version, capabilities=frozenset(NAMES))
    text = session_id.encode(SIGNER)
    assert len(text) <= MAX_ID_CHARS
    assert all("!" <= letter <= "~" for letter in text)
    assert SessionId.decode(SIGNER, ID.gateway, text) == session_id


def test_a_session_id_forgets_capabilities_that_it_has_no_bit_for() -> None:
    text = attrs.evolve(ID, capabilities=frozenset({"roots", "x-vendor"})).encode(SIGNER)
    decoded = SessionId.decode(SIGNER, ID.gateway, text)
    assert decoded is not None
    assert decoded.capabilities == {"roots"}


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(SIGNER.seal(Purpose.SESSION, ID.gateway, b"short"), id="too short"),
        pytest.param(SIGNER.seal(Purpose.SESSION, ID.gateway, b"\xff" * 46), id="unknown bits"),
        pytest.param(SIGNER.seal(Purpose.SESSION, ID.gateway, b"\0" * 36 + b"\xff"), id="a version that is not ASCII"),
        pytest.param(SIGNER.seal(Purpose.SESSION, ID.gateway, b"\0" * 300), id="too long"),
        pytest.param(SIGNER.seal(Purpose.CURSOR, ID.gateway, b"\0" * 46), id="a cursor"),
    ],
)
def test_a_signed_token_that_is_no_session_id_is_unknown(text: str) -> None:
    assert SessionId.decode(SIGNER, ID.gateway, text) is None


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param(attrs.evolve(ID, nonce=b"n"), id="nonce"),
        pytest.param(attrs.evolve(ID, principal=b"p" * 9), id="principal"),
        pytest.param(attrs.evolve(ID, issued_unix_s=-1), id="time"),
        pytest.param(attrs.evolve(ID, version="x" * 200), id="version"),
    ],
)
def test_a_session_id_with_a_field_of_the_wrong_size_is_our_bug(bad: SessionId) -> None:
    with pytest.raises(LocalFault):
        bad.encode(SIGNER)
