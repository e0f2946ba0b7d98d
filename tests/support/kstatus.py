"""What tools that follow kstatus (Flux, kpt, ``helm --wait``) make of an object of a kind that they do not know.

Owns kstatus's generic rules, in its order. Deliberately none of its rules for kinds of Kubernetes itself. Invariant: it
looks at nothing but ``metadata`` and ``status``.

Spec: sigs.k8s.io/cli-utils, pkg/kstatus/README.md.
"""

from typing import Any


def kstatus(document: dict[str, Any]) -> str:
    """Terminating, InProgress, Failed or Current."""
    metadata, status = document["metadata"], document.get("status", {})
    if metadata.get("deletionTimestamp"):
        return "Terminating"
    # "observedGeneration ... if it is not set, the check is left out"
    if status.get("observedGeneration", metadata["generation"]) != metadata["generation"]:
        return "InProgress"
    conditions = status.get("conditions", [])
    for one in conditions:  # in the order in which they stand there
        if (one["type"], one["status"]) == ("Reconciling", "True"):
            return "InProgress"
        if (one["type"], one["status"]) == ("Stalled", "True"):
            return "Failed"
    for one in conditions:
        if one["type"] == "Ready":
            return "Current" if one["status"] == "True" else "InProgress"
    return "Current"  # "the absence of any known conditions means that the resource is current"
