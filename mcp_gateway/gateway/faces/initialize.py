"""What a 2025 client says of itself in ``initialize``, on either transport.

Owns reading it. Deliberately opens no session and answers nothing. Invariant: what
is kept of a client, and told to backends, is bounded and of the form it must have.

Spec: MCP 2025-11-25 basic/lifecycle.
"""

import attrs

from mcp_gateway.backends.transports.base import ClientIdentity
from mcp_gateway.gateway.faces.own_answers import Invalid, negotiate
from mcp_gateway.protocol import jsonrpc, splice, translate
from mcp_gateway.protocol.envelope import TOO_MUCH_CAPABILITY, client_info, says_too_much
from mcp_gateway.protocol.eras import Era
from mcp_gateway.protocol.wire_errors import INVALID_PARAMS
from mcp_gateway.values import JsonObject


@attrs.frozen(kw_only=True)
class Initialize:
    """Which revision is spoken from now on, and with whom."""

    era: Era
    identity: ClientIdentity
    """What backends will be told: the client's own words."""
    capabilities: JsonObject
    """As parsed; what is no object declares nothing."""


def read_initialize(message: jsonrpc.RpcRequest) -> Initialize | Invalid:
    """Read the params of ``initialize``; says so when they cannot be taken."""
    offered, capabilities = message.params.get("protocolVersion"), message.params.get("capabilities")
    if not isinstance(offered, str):
        return Invalid(code=INVALID_PARAMS, message="params.protocolVersion must be a string")
    raw = splice.value_at(message.raw, ("params", "capabilities"))
    if raw is not None and says_too_much(raw):
        return Invalid(code=INVALID_PARAMS, message=f"params.capabilities {TOO_MUCH_CAPABILITY}")
    era = negotiate(offered)
    identity = ClientIdentity(
        capabilities=translate.client_capabilities(raw),
        info=client_info(splice.value_at(message.raw, ("params", "clientInfo"))),
        version=era.version,
    )
    declared: JsonObject = capabilities if isinstance(capabilities, dict) else {}
    return Initialize(era=era, identity=identity, capabilities=declared)
