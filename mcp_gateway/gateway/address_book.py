"""The way to state that lives with one process: sessions and suspended calls.

Owns who receives what is addressed to them. Local in this version; between workers and
replicas it becomes a network hop, which is why ``deliver`` waits, an address names its
owner, and messages are plain values (no reply, scope or task in them). Invariant: a
message to an unknown owner or name is refused, not kept.
"""

from collections.abc import Awaitable, Callable
from typing import TypeAlias

import attrs

from mcp_gateway.protocol import jsonrpc


@attrs.frozen
class Address:
    """Where a message goes."""

    owner: str
    """The process; "" in a gateway that has but one."""
    name: str
    """``session:<key>`` or ``call:<state id>``."""


@attrs.frozen
class InputResponses:
    """What a 2026 client answers to the questions of its suspended call: the raw object."""

    raw: bytes = attrs.field(repr=False)


Message: TypeAlias = jsonrpc.RpcResponse | jsonrpc.RpcNotification | InputResponses
Receive: TypeAlias = Callable[[Message], Awaitable[bool]]


@attrs.define(eq=False)
class AddressBook:
    """Delivers messages to whoever has claimed an address in this process."""

    owner: str = ""
    _names: dict[str, Receive] = attrs.field(factory=dict)

    def __len__(self) -> int:
        return len(self._names)

    def claim(self, name: str, receive: Receive) -> None:
        """Receive under ``name`` from now on."""
        self._names[name] = receive

    def release(self, name: str) -> None:
        """Receive no longer."""
        self._names.pop(name, None)

    async def deliver(self, address: Address, message: Message) -> bool:
        """Hand ``message`` over; False when nobody of that name is there or it refuses."""
        receive = self._names.get(address.name) if address.owner == self.owner else None
        return await receive(message) if receive is not None else False
