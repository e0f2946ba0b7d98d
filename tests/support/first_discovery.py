"""Wait for what a test needs to have been found out, or to have failed."""

from mcp_gateway.backends.fleet import Fleet


async def first_discovery(fleet: Fleet) -> None:
    """Wait for ``Fleet.first_discovery_done`` of what is configured now."""
    for backend in [fleet.get(key) for key in fleet.keys]:
        if backend is not None:
            await backend.supervisor.builder.first_answer.wait()
