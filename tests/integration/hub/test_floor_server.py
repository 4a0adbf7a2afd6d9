"""The floor server: messages to many members are sent in portions, in order, and groups take turns."""

import asyncio

from patrolink.hub.infra.crypto import GroupKey
from patrolink.hub.voice.floor import Floor
from patrolink.hub.voice.floor_server import FloorServer
from patrolink.hub.voice.floor_types import FloorRules, Member
from patrolink.hub.voice.groups import Group, Membership

from tests.support.hub_parts import FakeClock


class Sent:
    """A FloorSender that keeps the names of members, and the turns of the loop in which they were sent something."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def send(self, device: str, data: bytes) -> None:
        self.names.append(device)


def make_group(number: int, size: int, memberships: dict[int, Membership]) -> Group:
    group = Group(number, "", "group", "pcma", 0, Floor(FloorRules(), number, lambda _: 1), GroupKey(1, bytes(30)))
    for i in range(size):
        ssrc = 1000 * number + i
        member = Member(f"{number}-{i}", ssrc, 0, frozenset(("talk",)), b"", present=True)
        memberships[ssrc] = Membership(member.name, group, member)
        group.floor.join(member)
    return group


def test_large_group_is_informed_in_portions_and_does_not_delay_others():
    async def run() -> list[list[str]]:
        memberships: dict[int, Membership] = {}
        sent = Sent()
        server = FloorServer(FakeClock(0), memberships, sent, lambda *_: None)
        server.start()
        large, small = (make_group(number, size, memberships) for number, size in ((1, 100), (2, 3)))
        turns = []
        server.open_group(large)
        server.open_group(small)
        for _ in range(5):
            turns.append(list(sent.names))
            sent.names.clear()
            await asyncio.sleep(0)
        server.close()
        return turns

    first, *later = asyncio.run(run())
    assert first == [*(f"1-{i}" for i in range(32)), "2-0", "2-1", "2-2"]
    assert [len(turn) for turn in later] == [32, 32, 4, 0]
    assert [name for turn in later for name in turn] == [f"1-{i}" for i in range(32, 100)]


def test_messages_of_a_group_keep_their_order_and_end_with_it():
    async def run() -> list[str]:
        memberships: dict[int, Membership] = {}
        sent = Sent()
        server = FloorServer(FakeClock(0), memberships, sent, lambda *_: None)
        server.start()
        group = make_group(1, 33, memberships)
        server.open_group(group)
        server.sync(group, memberships[1000].member)
        await asyncio.sleep(0)
        names = list(sent.names)
        server.open_group(group)
        server.close_group(group)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        server.close()
        return [*names, *sent.names[len(names) :]]

    names = asyncio.run(run())
    assert names[:34] == [*(f"1-{i}" for i in range(33)), "1-0"] and len(names) == 34 + 32
