"""The book of tasks: who is in it, for how long, and how many."""

import attrs
import trio
from trio.testing import MockClock

from mcp_gateway.auth.principal import ANONYMOUS
from mcp_gateway.backends.backend import Caller
from mcp_gateway.backends.fleet import open_fleet
from mcp_gateway.backends.transports.base import ClientIdentity
from mcp_gateway.cell import Cell
from mcp_gateway.gateway.faces.task_list import listed
from mcp_gateway.gateway.tasks import LISTED_S, MAX_ALL, MAX_KEPT_BYTES, Tasks
from mcp_gateway.protocol.eras import Family
from mcp_gateway.protocol.tasks import Told, told
from mcp_gateway.sessions.signed import Signer
from mcp_gateway.sessions.task_ids import TaskOwner
from mcp_gateway.values import BackendKey

OWNER = TaskOwner(realm="|", family=Family.LEGACY, principal=ANONYMOUS.digest, session="mine")
FILES = BackendKey("files")
CALLER = Caller(session="s", principal=ANONYMOUS, identity=ClientIdentity())


def said(task_id: str, *, more: str = "", ttl: str = "60000") -> Told:
    raw = f'{{"taskId":"{task_id}","status":"working","statusMessage":"{more}","ttl":{ttl}}}'
    found = told(raw.encode())
    assert found is not None
    return found


def owner(number: int) -> TaskOwner:
    return attrs.evolve(OWNER, session=str(number))


async def test_a_task_leaves_the_book_with_its_ttl_at_the_latest_after_a_day(autojump_clock: MockClock) -> None:
    async with open_fleet() as fleet:
        book = Tasks(signer=Cell(Signer((b"k",))), fleet=fleet)
        for task_id, ttl in (("short", "60000"), ("endless", "null"), ("long", "1e12")):
            book.note(OWNER, FILES, CALLER, said(task_id, ttl=ttl))
        assert [task.ref.upstream for task in book.of(OWNER)] == ["short", "endless", "long"]
        await trio.sleep(61)
        assert [task.ref.upstream for task in book.of(OWNER)] == ["endless", "long"]
        await trio.sleep(LISTED_S)
        book.prune()
        assert len(book) == 0
        book.forget(OWNER, "nobody")
        book.end(OWNER, "s")


async def test_all_clients_together_have_a_bound_where_the_oldest_go(autojump_clock: MockClock) -> None:
    async with open_fleet() as fleet:
        book = Tasks(signer=Cell(Signer((b"k",))), fleet=fleet)
        for number in range(MAX_ALL + 2):
            book.note(owner(number), FILES, CALLER, said("t"))
        assert len(book) == MAX_ALL
        assert [len(book.of(owner(number))) for number in (0, 1, 2, MAX_ALL + 1)] == [0, 0, 1, 1]


async def test_a_long_message_is_not_kept_and_a_server_that_is_gone_not_asked(autojump_clock: MockClock) -> None:
    async with open_fleet() as fleet:
        book = Tasks(signer=Cell(Signer((b"k",))), fleet=fleet)
        book.note(OWNER, FILES, CALLER, said("t", more="x" * MAX_KEPT_BYTES))
        (task,) = book.of(OWNER)
        assert len(task.state) < 1000
        assert b'"status":"working"' in task.state
        assert await listed(book, OWNER, None, {FILES}) == b'{"tasks":[%b]}' % task.state
