"""Channels: whatever the network does, each message arrives once and in order."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scopekit.errors import ProtocolError
from scopekit.wire import channel as ch
from scopekit.wire.channel import HEAD_SIZE, Channel, Word, read_head

A, B, C = (bytes([letter]) * 8 for letter in b"abc")


def pair():
    return Channel(A, opens=True), Channel(B, opens=False)


def carry(source, target, now=0.0, lost=()):
    """Brings what one end says now to the other; returns what arrived."""
    arrived = []
    for word in source.due(now):
        if word.number not in lost:
            arrived += target.receive(read_head(word.head(), word.body), now)
    return [body for _, body in arrived]


def connected():
    one, two = pair()
    carry(one, two)
    carry(two, one)
    assert one.connected
    assert two.connected
    return one, two


def settle(one, two, now, rounds=200):
    """Lets both ends speak whenever they want to, with nothing lost."""
    arrived = {one: [], two: []}
    for _ in range(rounds):
        arrived[two] += carry(one, two, now)
        arrived[one] += carry(two, one, now)
        times = [t for t in (one.next_due(now), two.next_due(now)) if t is not None]
        if not times:
            return arrived[one], arrived[two]
        now = max(now, min(times))
    pytest.fail("they never come to rest")


def test_messages_arrive_in_order_with_their_flags():
    one, two = connected()
    for number in range(5):
        one.send(b"%d" % number, flags=number)
    words = one.due(0.0)
    arrived = [message for word in words for message in two.receive(word, 0.0)]

    assert arrived == [(number, b"%d" % number) for number in range(5)]


def test_messages_wait_until_the_other_end_was_heard():
    one, two = pair()
    one.send(b"x")
    two.send(b"y")

    assert two.due(0.0) == []
    assert two.next_due(0.0) is None
    assert carry(one, two) == []
    assert carry(two, one) == [b"y"]
    assert carry(one, two) == [b"x"]


def test_the_end_that_opens_says_so_again_until_it_is_heard():
    one, _ = pair()
    assert [word.number for word in one.due(0.0)] == [0]
    assert one.due(0.1) == []
    assert one.next_due(0.1) == 0.5
    assert len(one.due(0.5)) == 1
    assert one.next_due(0.5) == 1.5


def test_an_acknowledgement_rides_on_the_next_message():
    one, two = connected()
    one.send(b"x")
    carry(one, two)
    two.send(b"y")
    carry(two, one)

    assert one.unacknowledged == 0


def test_an_acknowledgement_goes_alone_when_nothing_else_goes_for_a_while():
    one, two = connected()
    one.send(b"x")
    carry(one, two, 1.0)
    assert two.due(1.04) == []
    assert two.next_due(1.0) == pytest.approx(1.05)
    assert one.unacknowledged == one.unacknowledged_bytes == 1
    carry(two, one, 1.05)

    assert one.unacknowledged == one.unacknowledged_bytes == 0
    assert one.next_due(1.05) is two.next_due(1.05) is None


def test_many_messages_are_acknowledged_at_once():
    one, two = connected()
    for _ in range(64):
        one.send(b"x")
    carry(one, two)
    carry(two, one)

    assert one.unacknowledged == 0


def test_a_message_that_is_missing_is_asked_for_when_the_next_one_comes():
    one, two = connected()
    for letter in (b"x", b"y", b"z"):
        one.send(letter)
    assert carry(one, two, lost={1, 2}) == []
    carry(two, one)
    assert carry(one, two) == [b"x", b"y", b"z"]
    assert one.counts.resent == 2
    assert two.counts.asked == 1
    assert two.counts.doubled == 0


def test_a_last_message_that_is_lost_is_found_by_asking_at_growing_intervals():
    one, two = connected()
    one.send(b"x")
    carry(one, two, lost={1})
    (first,) = one.due(0.5)
    assert (first.number, first.last, first.flags) == (0, 1, 1)
    assert one.due(1.4) == []
    carry(one, two, 1.5)
    carry(two, one, 1.5)
    assert carry(one, two, 1.5) == [b"x"]


def test_a_line_that_is_slow_carries_nothing_twice():
    one, two = connected()
    one.send(b"x" * 1000)
    words = one.due(0.0)
    for now in range(1, 60):
        words += one.due(float(now))
    assert sum(len(word.body) for word in words) == 1000
    assert len(words) < 15
    arrived = [message for word in words for message in two.receive(word, 60.0)]
    assert len(arrived) == 1


def test_what_came_before_is_dropped_and_counted():
    one, two = connected()
    one.send(b"x")
    (word,) = one.due(0.0)
    assert two.receive(word, 0.0) == [(0, b"x")]
    assert two.receive(word, 0.0) == []
    assert two.counts.doubled == 1


def test_a_missing_message_is_asked_for_once_and_later_again():
    one, two = connected()
    for _ in range(4):
        one.send(b"x")
    words = one.due(0.0)
    asked = []
    for word in words[1:]:
        two.receive(word, 0.0)
        asked += [(w.missing_from, w.missing_to) for w in two.due(0.0) if w.missing_from]
    assert asked == [(1, 1)]
    again = [w for now in (0.2, 0.49, 0.5, 0.6) for w in two.due(now) if w.missing_from]
    assert [(w.missing_from, w.missing_to) for w in again] == [(1, 1)]


@pytest.mark.parametrize("to", [A, C])
def test_words_of_another_epoch_change_nothing(to):
    one, two = connected()
    one.send(b"x")
    carry(one, two)
    before = (one.unacknowledged, one.due(0.01), two.due(0.01))
    one.receive(Word(C, to, 1, 1, 1, 1, 1, 0, b"old"), 0.01)
    two.receive(Word(C, ch.NOBODY, 1, 1, 0, 0, 0, 0, b"old"), 0.01)

    assert before == (one.unacknowledged, one.due(0.01), two.due(0.01))
    assert (one.counts.stale, two.counts.stale) == (1, 1)


def test_the_end_that_opens_takes_no_word_that_is_for_nobody():
    one, _ = pair()
    assert one.receive(Word(C, ch.NOBODY, 1, 1, 0, 0, 0, 0, b"old"), 0.0) == []
    assert not one.connected


def test_a_confirmation_of_what_was_never_sent_changes_nothing():
    one, _two = connected()
    one.send(b"x")
    one.due(0.0)
    one.receive(Word(B, A, 0, 0, 2), 0.0)
    one.receive(Word(B, A, 0, 0, 0, 1, 2**64 - 1), 0.0)

    assert one.unacknowledged == 1
    assert one.counts.stale == 2


def test_no_more_than_a_window_is_on_its_way():
    one, _two = connected()
    for _ in range(3):
        one.send(memoryview(bytes(ch._WINDOW_BYTES // 2)))
    one.send(b"x")
    assert len(one.due(0.0)) == 2
    assert one.unacknowledged == 4
    one.receive(Word(B, A, 0, 0, 1), 0.0)
    assert len(one.due(0.0)) == 1

    one, _two = connected()
    for _ in range(1000):
        one.send(b"x")
    assert len(one.due(0.0)) == ch._WINDOW_MESSAGES


def test_a_message_larger_than_the_window_leaves_alone():
    one, _two = connected()
    one.send(b"x")
    one.send(memoryview(bytes(ch._WINDOW_BYTES + 1)))
    assert [len(w.body) for w in one.due(0.0)] == [1]
    one.receive(Word(B, A, 0, 0, 1), 0.0)
    assert [len(w.body) for w in one.due(0.0)] == [ch._WINDOW_BYTES + 1]


def test_a_peer_that_leaves_a_gap_for_ever_makes_nobody_hold_more_than_a_bound():
    _one, two = connected()
    for number in range(2, 20_000):
        two.receive(Word(A, B, number, number, 0, body=b"x"), 0.0)

    assert len(two._receiving._held) <= ch._HELD_MESSAGES
    body = bytes(1 << 20)
    for number in range(2, 500):
        two.receive(Word(A, B, number + 20_000, number + 20_000, 0, body=body), 0.0)
    assert two._receiving._bytes_held <= ch._HELD_BYTES


@given(st.binary(max_size=2 * HEAD_SIZE) | st.binary(min_size=HEAD_SIZE, max_size=HEAD_SIZE))
def test_any_head_is_read_or_refused_and_changes_no_confirmed_state(head):
    _one, two = connected()
    two.send(b"x")
    two.due(0.0)
    try:
        word = read_head(head, b"body")
    except ProtocolError:
        return
    assert two.receive(word, 0.0) == []
    assert two.unacknowledged == 1


class Network:
    """Holds words between two ends, and does with them what it is told."""

    def __init__(self, random):
        self.random = random
        self.words = []

    def put(self, words):
        for word in words:
            fate = self.random.random()
            copies = 0 if fate < 0.25 else 2 if fate < 0.4 else 1
            self.words += [word] * copies

    def take(self):
        count = self.random.randint(0, len(self.words))
        if self.random.random() < 0.3:
            self.random.shuffle(self.words)
        taken, self.words = self.words[:count], self.words[count:]
        return taken


@settings(deadline=None, max_examples=60)
@given(st.randoms(use_true_random=False), st.integers(0, 40), st.integers(0, 40))
def test_everything_arrives_exactly_once_and_in_order(random, first, second):
    one, two = pair()
    old = Word(C, ch.NOBODY, 1, 9, 0, 0, 0, 0, b"old")
    there, back = Network(random), Network(random)
    arrived = {one: [], two: []}
    unsent = {one: list(range(first)), two: list(range(second))}
    now = 0.0
    for _ in range(60):
        for end, out, inlet in ((one, there, back), (two, back, there)):
            for _ in range(random.randint(0, 3)):
                if unsent[end]:
                    end.send(b"%d" % unsent[end].pop(0))
            out.put(end.due(now))
            for word in inlet.take():
                arrived[end] += [body for _, body in end.receive(word, now)]
            if end.connected:
                end.receive(old, now)
        now += random.choice((0.0, 0.01, 0.3, 1.0))
    for end in (one, two):
        while unsent[end]:
            end.send(b"%d" % unsent[end].pop(0))
    last_one, last_two = settle(one, two, now)

    # Words that come late, once all is done, change nothing either.
    late = [word for word in there.words for _ in two.receive(word, now)]
    assert late == []
    assert [b"%d" % n for n in range(second)] == arrived[one] + last_one
    assert [b"%d" % n for n in range(first)] == arrived[two] + last_two
    assert one.unacknowledged == two.unacknowledged == 0
