"""One installation for all acceptance cases: a real API server, one controller, one data plane.

Owns the fixtures. Deliberately gives each test a place of its own, so that no order of tests matters.
"""

import itertools
import socket
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Final, Protocol

import attrs
import pytest

from tests.support.kube.installation import Installation, Program
from tests.support.kube.objects import Document, Objects
from tests.support.kube.place import Place

_numbers: Final = itertools.count(1)


@attrs.frozen
class Running:
    """The programs, and how to reach them."""

    objects: Objects
    data_plane: Program
    where: str

    def place(self, *listeners: Document) -> Place:
        """A namespace with a Gateway that has these listeners."""
        return Place(f"place-{next(_numbers)}", self.objects, self.where, *listeners)


class Open(Protocol):
    """Makes places that end with the test."""

    def __call__(self, *listeners: Document) -> Place:
        """A namespace with a Gateway, and no extension yet."""
        ...


@pytest.fixture(scope="package")
def running() -> Iterator[Running]:
    with Installation() as made:
        objects = Objects(made.api)
        made.controller()
        with socket.create_server(("127.0.0.1", 0)) as free:  # it comes back to its address when it is started again
            bind = f"127.0.0.1:{free.getsockname()[1]}"
        data_plane, where = made.data_plane("--bind", bind)
        yield Running(objects, data_plane, where)
        objects.close()


@pytest.fixture(scope="package")
def home(running: Running) -> Iterator[Place]:
    """The place of the oldest extension, which hosts that nobody claims lead to.

    On a loopback address streams are opened by loopback hosts only.
    """
    with running.place() as place:
        place.asked = running.where
        yield place.opened()


@pytest.fixture
def new_place(running: Running, home: Place) -> Iterator[Open]:
    places: list[AbstractContextManager[Place]] = []

    def open_(*listeners: Document) -> Place:
        place = running.place(*listeners)
        places.append(place)
        return place.__enter__()

    yield open_
    for place in places:
        place.__exit__(None, None, None)


@pytest.fixture
def place(new_place: Open) -> Place:
    """With an extension."""
    return new_place().opened()
