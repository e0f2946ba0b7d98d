"""References across namespaces: who has to allow them, and whether they are allowed.

Owns the rule of the Gateway API (GEP-709) and the sentence that names the grant that is missing. Deliberately does not
look whether the target exists: without a grant nobody must learn that. Invariant: inside one namespace everything is
allowed; across, only what a ReferenceGrant of the target's namespace says.
"""

from mcp_gateway.kube import schema
from mcp_gateway.kube.objects import Key
from mcp_gateway.kube.schema import Kind
from mcp_gateway.kube.store import Store


def is_granted(view: Store, source: Kind, namespace: str, target: Kind, key: Key) -> bool:
    """Whether objects of a kind in a namespace may refer to an object."""
    if key.namespace == namespace:
        return True
    wanted = (source.group, source.kind, namespace)
    return any(
        wanted in grant.sources
        and any(
            (group, kind) == (target.group, target.kind) and name in ("", key.name)
            for group, kind, name in grant.targets
        )
        for grant in view.grants(key.namespace)
    )


def missing_grant(source: Kind, namespace: str, target: Kind, key: Key) -> str:
    """What has to be created, in one sentence."""
    return (
        f"ReferenceGrant required in {key.namespace} to allow cross-namespace reference from {namespace}: create one "
        f"({schema.REFERENCE_GRANT.api_version}) in namespace {key.namespace} with "
        f"from: [{{group: {source.group}, kind: {source.kind}, namespace: {namespace}}}] and "
        f"to: [{{group: {target.group or chr(34) * 2}, kind: {target.kind}, name: {key.name}}}]"
    )
