"""The store of one process: ended sessions stay ended, within a bound."""

from mcp_gateway.sessions.memory import MAX_TOMBSTONES, MemoryStore


async def test_invariant_7_the_oldest_tombstone_goes_at_the_bound() -> None:
    store = MemoryStore()
    for number in range(MAX_TOMBSTONES + 1):
        await store.end(f"{number}", 0.0)
    assert not await store.ended("0")
    assert await store.ended("1")
    assert await store.ended(f"{MAX_TOMBSTONES}")
    assert not await store.ended("unknown")
