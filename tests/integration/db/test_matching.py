"""Whose message an event is about: looked up, or locked with one look, it is the same."""

import itertools

from db.ids import uuid7
from db.matching import OutOfOrderError, Told, lock_matching, match_events
from db.pool import Database
from mail.event import EventKind
from tests.integration.db.houses import House, event, now, sent
from tests.support.practice import make_account


async def test_events_match_by_our_id_before_theirs_and_only_within_the_account(
    database: Database, house: House, other: House
) -> None:
    one, two = await sent(database, house, "one"), await sent(database, house, "two")
    foreign = await sent(database, other, "foreign")
    account_id, second_id = house.account.id, (await make_account(database, house.practice)).id
    asked = {
        event(EventKind.OPENED, "1", ours=one): one,
        event(EventKind.OPENED, "2", theirs="two"): two,
        event(EventKind.OPENED, "3", ours=one, theirs="two"): one,
        event(EventKind.OPENED, "4", ours=foreign): None,
        event(EventKind.OPENED, "5", theirs="foreign"): None,
        event(EventKind.OPENED, "6", ours=foreign, theirs="two"): two,
        event(EventKind.OPENED, "7", ours=uuid7(now()), theirs="nobody's"): None,
        event(EventKind.OPENED, "8"): None,
    }
    own, others = [(account_id, each) for each in asked], [(second_id, each) for each in asked]
    matched = [*asked.values(), *[None] * len(asked)]
    async with database.tenant(house.practice.id) as connection:
        assert await match_events(connection, house.practice.id, [*own, *others]) == matched
        assert await match_events(connection, house.practice.id, []) == []
        found, locked = await lock_matching(connection, house.practice.id, [*own, *others])
        assert found == matched
        assert locked.keys() == {one, two}
        assert await lock_matching(connection, house.practice.id, []) == ([], {})


async def test_what_is_locked_with_one_look_is_what_is_looked_up(
    database: Database, house: House, other: House
) -> None:
    names = ["one", "two", "foreign"]
    ids = [await sent(database, house, name) for name in names[:2]] + [await sent(database, other, "foreign")]
    accounts = [house.account.id, (await make_account(database, house.practice)).id]
    kinds = itertools.product(accounts, [None, *ids, uuid7(now())], [None, *names, "nobody's"])
    each: list[Told] = [
        (account_id, event(EventKind.OPENED, str(number), ours=ours, theirs=theirs))
        for number, (account_id, ours, theirs) in enumerate(kinds)
    ]
    refused = 0
    for told in ([one] for one in each):
        async with database.tenant(house.practice.id) as connection:
            matched = await match_events(connection, house.practice.id, told)
            try:
                found, locked = await lock_matching(connection, house.practice.id, told)
            except OutOfOrderError:
                [message_id] = matched
                assert message_id is not None
                assert told[0][1].message_id not in (None, message_id)
                refused += 1
            else:
                assert found == matched
                assert locked.keys() >= set(filter(None, matched))
    assert refused == 4, "our id is of another practice or of none, and theirs is known"
    beside = [(accounts[0], event(EventKind.OPENED, ours=ours, theirs="one")) for ours in (ids[0], uuid7(now()))]
    async with database.tenant(house.practice.id) as connection:
        found, _ = await lock_matching(connection, house.practice.id, beside)
    assert found == [ids[0], ids[0]], "what the one has locked the other needn't lock"
