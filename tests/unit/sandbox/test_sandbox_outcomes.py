import random
from collections import Counter

import pytest

from carepost.sandbox import outcomes
from carepost.sandbox.outcomes import FULL_SECONDS, OUTCOMES

HAPPENS = {
    "delivered": ["processed", "delivered"],
    "opened": ["processed", "delivered", "opened"],
    "machine-open": ["processed", "delivered", "opened"],
    "bounced": ["processed", "bounced"],
    "full": ["processed", "bounced"],
    "soft": ["processed", "bounced"],
    "suppressed": ["dropped"],
    "deferred": ["processed", "deferred", "delivered"],
    "late-bounce": ["processed", "delivered", "bounced"],
    "auto-reply": ["processed", "delivered", "auto-replied"],
    "complained": ["processed", "delivered", "complained"],
    "unsubscribed": ["processed", "delivered", "unsubscribed"],
    "silent": ["processed"],
    "missed": ["processed", "delivered"],
}


def plans(name: str, count: int = 500, *, open_tracking: bool = True):
    return [outcomes.plan(name, random.Random(seed), open_tracking=open_tracking) for seed in range(count)]


def test_every_outcome_is_named_here():
    assert HAPPENS.keys() == OUTCOMES.keys()


@pytest.mark.parametrize(("name", "events"), HAPPENS.items())
def test_an_outcome_happens_in_its_order_and_in_time(name, events):
    for plan in plans(name):
        assert list(dict.fromkeys(occurrence.step.happening.value for occurrence in plan)) == events
        times = [occurrence.at for occurrence in plan]
        assert times == sorted(times)
        for occurrence in plan:
            assert all(occurrence.at < post < FULL_SECONDS for post in occurrence.posts)


def test_a_deferral_happens_once_or_twice():
    counts = Counter(sum(o.step.happening.value == "deferred" for o in plan) for plan in plans("deferred"))
    assert counts.keys() == {1, 2}


def test_without_open_tracking_nothing_is_opened():
    for plan in plans("opened", open_tracking=False):
        assert [occurrence.step.happening.value for occurrence in plan] == ["processed", "delivered"]


def test_some_events_are_posted_twice_and_some_out_of_order():
    many = plans("opened")
    assert any(len(occurrence.posts) == 2 for plan in many for occurrence in plan)
    delivered_after_open = sum(plan[1].posts[0] > plan[2].posts[0] for plan in many)
    assert 0.05 < delivered_after_open / len(many) < 0.35


def test_every_event_is_posted_twice_and_the_last_first_when_asked():
    for seed in range(50):
        plan = outcomes.plan("opened", random.Random(seed), open_tracking=True, repeat=True, shuffle=True)
        assert [len(occurrence.posts) for occurrence in plan] == [2, 2, 2]
        firsts = [occurrence.posts[0] for occurrence in plan]
        assert firsts == sorted(firsts, reverse=True)
        assert max(post for occurrence in plan for post in occurrence.posts) < FULL_SECONDS


def test_the_same_seed_gives_the_same_plan():
    assert plans("opened", 20) == plans("opened", 20)


@pytest.mark.parametrize(
    ("email", "name"),
    [
        ("opened@sandbox.example", "opened"),
        ("Opened+anna@Sandbox.Example", "opened"),
        ("late-bounce+x+y@sandbox.example", "late-bounce"),
    ],
)
def test_the_local_part_decides(email, name):
    assert {outcomes.outcome(email, "s", ordinal) for ordinal in range(50)} == {name}


def test_other_addresses_get_a_realistic_mix():
    names = Counter(outcomes.outcome(f"p{n}@clinic.example", "s", n) for n in range(5000))
    share = {name: count / 5000 for name, count in names.items()}
    assert share["opened"] > 0.4
    assert share["opened"] + share["delivered"] > 0.7
    assert 0.01 < share["bounced"] < 0.06
    assert names.keys() == OUTCOMES.keys()


def test_an_address_that_does_not_exist_never_does():
    bounced = [
        f"p{n}@clinic.example" for n in range(500) if outcomes.outcome(f"p{n}@clinic.example", "s", 0) == "bounced"
    ]
    assert bounced
    assert {outcomes.outcome(email, "s", ordinal) for email in bounced for ordinal in range(20)} == {"bounced"}
