"""Messages in order, each exactly once, over a network that may lose, double or reorder words.

ZeroMQ drops what it had taken when a connection breaks, without a word. Here every message
has a number. An end keeps what it sent until the other end says that it came; the other
end delivers in order, drops what it has seen, and asks again for what is missing.

Rules:

1. Every word says how far its sender has come: the number of its last message, and of the
   last message up to which all of the other's came. So any word shows what was lost before it.
2. Nothing is sent a second time unless it was asked for. An end that hears no answer sends
   a bare word, at growing intervals; the answer to it says what is missing. To send the
   message itself again would queue up large messages twice on a line that is only slow.
3. The end that opens takes no word that is not meant for it; the other end belongs to the
   first that speaks to it. Words of any other epoch change nothing.
4. No more than a window of messages is on its way; the others wait in the sender.

There is no clock here and nothing is sent: time comes in, words come out.
"""

from __future__ import annotations

import struct
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from scopekit.errors import ProtocolError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scopekit.wire.frames import Buffer

__all__ = ("HEAD_SIZE", "Channel", "Counts", "Word", "read_head")

NOBODY = bytes(8)
_HEAD = struct.Struct("<8s8sQQQQQB")
HEAD_SIZE = _HEAD.size

_WINDOW_MESSAGES = 512
_WINDOW_BYTES = 32 << 20
_HELD_MESSAGES = 2 * _WINDOW_MESSAGES
_HELD_BYTES = 2 * _WINDOW_BYTES
_ACK_MESSAGES = 64
_ACK_BYTES = 4 << 20
_ACK_SECONDS = 0.05
_ASK_SECONDS = 0.5
_ASK_SECONDS_MOST = 8.0
_ANSWER = 1
_NOTHING = (0, 0)


class Word(NamedTuple):
    """What travels from one end to the other.

    Attributes:
        epoch: of the end that sends it.
        to: the epoch of the end that it is meant for, NOBODY if that is not known.
        number: of the message in it, 0 if there is none.
        last: the number of the last message that was sent.
        came: all messages of the other end up to this one came.
        missing_from: the first message that the other end is to send again, 0 if none.
        missing_to: the last of these.
        flags: what the holder of the channel says of the message; where there is none,
            1 to be answered.
        body: the message.
    """

    epoch: bytes
    to: bytes
    number: int
    last: int
    came: int
    missing_from: int = 0
    missing_to: int = 0
    flags: int = 0
    body: Buffer = b""

    def head(self) -> bytes:
        """Lays out all but the body."""
        return _HEAD.pack(*self[:8])


def read_head(head: Buffer, body: Buffer) -> Word:
    """Reads a word.

    Args:
        head: what ``Word.head`` laid out.
        body: the message in it.

    Raises:
        ProtocolError: the head is none, or contradicts itself.
    """
    if len(head) != HEAD_SIZE:
        raise ProtocolError("a word has a head of another length")
    word = Word._make((*_HEAD.unpack(head), body))
    if word.number > word.last or word.missing_from > word.missing_to or word.epoch == NOBODY:
        raise ProtocolError("the head of a word contradicts itself")
    return word


class Counts:
    """What went wrong so far.

    Attributes:
        doubled: messages that had come before, and were dropped.
        stale: words that were not for this end, or not from its other end.
        resent: messages that were asked for again, and sent.
        asked: times that this end asked for missing messages.
    """

    __slots__ = ("asked", "doubled", "resent", "stale")

    def __init__(self) -> None:
        self.doubled = self.stale = self.resent = self.asked = 0


class Channel:
    """One end.

    Args:
        epoch: eight random bytes that no other end has.
        opens: True for the end that speaks first.
    """

    def __init__(self, epoch: bytes, *, opens: bool) -> None:
        if len(epoch) != len(NOBODY) or epoch == NOBODY:
            raise ValueError("an epoch has eight bytes, not all zero")
        self.epoch = epoch
        self.counts = Counts()
        self._opens = opens
        self._other = NOBODY
        self._sending = _Sending()
        self._receiving = _Receiving()
        self._speak_now = opens
        self._question = False
        self._probe_at: float | None = None
        self._probe_wait = _ASK_SECONDS

    @property
    def connected(self) -> bool:
        """True once the other end was heard."""
        return self._other != NOBODY

    @property
    def unacknowledged(self) -> int:
        """How many messages the other end has not confirmed yet."""
        return len(self._sending.waiting) + len(self._sending.kept)

    @property
    def unacknowledged_bytes(self) -> int:
        """How long these are, together."""
        return self._sending.bytes_waiting + self._sending.bytes_kept

    def send(self, body: Buffer, flags: int = 0) -> None:
        """Takes a message; ``due`` says when it may leave.

        Args:
            body: the message.
            flags: eight bits for the holder of the channel.
        """
        self._sending.take(body, flags)

    def speak(self) -> None:
        """Has the next ``due`` give a word, whether there is news or not."""
        self._speak_now = True

    def probe(self) -> None:
        """Has the next ``due`` find out what came: words may have been lost."""
        self._speak_now = self._question = True

    def receive(self, word: Word, now: float) -> list[tuple[int, Buffer]]:
        """Takes a word of the other end.

        Args:
            word: what arrived.
            now: the time.

        Returns:
            The messages that are next in order, each with its flags.
        """
        if not self._is_for_here(word):
            self.counts.stale += 1
            return []
        if word.to == NOBODY:  # it waits to be told who is here
            self._speak_now = True
        if self._sending.confirm(word.came) or not self._sending.kept:
            self._expect_answer(now)
        if word.missing_from:
            self._sending.repeat(word.missing_from, word.missing_to)
        if not word.number and word.flags & _ANSWER:
            self._speak_now = True
        return self._receiving.take(word, now, self.counts)

    def _is_for_here(self, word: Word) -> bool:
        if word.to not in (self.epoch, NOBODY) or (self._opens and word.to == NOBODY):
            return False
        if word.came > self._sending.last or word.missing_to > self._sending.last:
            return False
        if self._other == NOBODY:
            self._other = word.epoch
        return self._other == word.epoch

    def due(self, now: float) -> list[Word]:
        """Returns the words that are to leave now.

        Args:
            now: the time.
        """
        if not (self.connected or self._opens):
            return []
        late = self._is_late(now)
        asks = self._receiving.ask(now, self.counts)
        words = [
            self._word(number, flags, body)
            for number, flags, body in self._sending.next_messages(self.connected, self.counts)
        ]
        if words and asks != _NOTHING:
            # Said once: each time it is said, all of it is sent again.
            words[0] = words[0]._replace(missing_from=asks[0], missing_to=asks[1])
        elif not words and (
            late or self._speak_now or asks != _NOTHING or self._receiving.must_tell(now)
        ):
            flags = _ANSWER if late or self._question else 0
            words = [self._word(0, flags, b"", asks)]
        if words:
            self._speak_now = self._question = False
            self._receiving.told()
            if self._probe_at is None:
                self._expect_answer(now)
        return words

    def _is_late(self, now: float) -> bool:
        """Tells whether an answer is late, and waits longer for the next."""
        if self._probe_at is None or now < self._probe_at:
            return False
        self._probe_wait = min(2 * self._probe_wait, _ASK_SECONDS_MOST)
        self._probe_at = now + self._probe_wait
        return True

    def _expect_answer(self, now: float) -> None:
        self._probe_wait = _ASK_SECONDS
        waits = self._sending.kept or not self.connected
        self._probe_at = now + self._probe_wait if waits else None

    def _word(
        self, number: int, flags: int, body: Buffer, asks: tuple[int, int] = _NOTHING
    ) -> Word:
        came, last = self._receiving.came, self._sending.last
        return Word(self.epoch, self._other, number, last, came, *asks, flags, body)

    def next_due(self, now: float) -> float | None:
        """Returns when ``due`` gives words next if nothing else happens, None if never.

        Args:
            now: the time.
        """
        if not (self.connected or self._opens):
            return None
        if self._speak_now or self._sending.ready(self.connected):
            return now
        times = [self._probe_at, *self._receiving.times()]
        return min((time for time in times if time is not None), default=None)


class _Sending:
    """The messages that the other end has not confirmed."""

    def __init__(self) -> None:
        self.last = 0
        self.kept: dict[int, tuple[int, Buffer]] = {}
        self.bytes_kept = 0
        self.waiting: deque[tuple[int, Buffer]] = deque()
        self.bytes_waiting = 0
        self._again: dict[int, None] = {}

    def take(self, body: Buffer, flags: int) -> None:
        self.waiting.append((flags, body))
        self.bytes_waiting += len(body)

    def ready(self, connected: bool) -> bool:
        return connected and bool(self._again or (self.waiting and self._has_room()))

    def _has_room(self) -> bool:
        # A message larger than the window leaves alone.
        return not self.kept or (
            len(self.kept) < _WINDOW_MESSAGES
            and self.bytes_kept + len(self.waiting[0][1]) <= _WINDOW_BYTES
        )

    def next_messages(self, connected: bool, counts: Counts) -> Iterator[tuple[int, int, Buffer]]:
        if not connected:
            return
        for number in self._again:
            if number in self.kept:  # it may have been confirmed since
                counts.resent += 1
                yield (number, *self.kept[number])
        self._again.clear()
        while self.waiting and self._has_room():
            flags, body = self.waiting.popleft()
            self.last += 1
            self.kept[self.last] = (flags, body)
            self.bytes_waiting -= len(body)
            self.bytes_kept += len(body)
            yield self.last, flags, body

    def confirm(self, came: int) -> bool:
        """Forgets what came; tells whether that was news."""
        first = self.last - len(self.kept) + 1
        for number in range(first, came + 1):
            self.bytes_kept -= len(self.kept.pop(number)[1])
        return first <= came

    def repeat(self, begin: int, end: int) -> None:
        first = self.last - len(self.kept) + 1
        self._again.update(dict.fromkeys(range(max(begin, first), end + 1)))


class _Receiving:
    """The messages of the other end: how far they came, and those that came too early."""

    def __init__(self) -> None:
        self.came = 0
        self._last = 0
        self._held: dict[int, tuple[int, Buffer]] = {}
        self._bytes_held = 0
        self._asked_to = 0
        self._ask_at = 0.0
        self._ask_wait = _ASK_SECONDS
        self._untold = 0
        self._untold_bytes = 0
        self._tell_at: float | None = None

    def take(self, word: Word, now: float, counts: Counts) -> list[tuple[int, Buffer]]:
        self._last = max(self._last, word.last)
        if not word.number:
            return []
        self._must_tell_later(word, now)
        if word.number <= self.came or word.number in self._held:
            counts.doubled += 1
            return []
        if word.number > self.came + 1:
            self._hold(word)
            return []
        ready = [(word.flags, word.body)]
        self.came += 1
        while self.came + 1 in self._held:
            self.came += 1
            ready.append(self._held.pop(self.came))
            self._bytes_held -= len(ready[-1][1])
        self._ask_wait = _ASK_SECONDS
        self._ask_at = now + self._ask_wait
        return ready

    def _must_tell_later(self, word: Word, now: float) -> None:
        self._untold += 1
        self._untold_bytes += len(word.body)
        if self._tell_at is None:
            self._tell_at = now + _ACK_SECONDS

    def _hold(self, word: Word) -> None:
        if word.number - self.came > _HELD_MESSAGES:
            return
        if self._bytes_held + len(word.body) <= _HELD_BYTES:
            self._held[word.number] = (word.flags, word.body)
            self._bytes_held += len(word.body)

    def ask(self, now: float, counts: Counts) -> tuple[int, int]:
        """Returns what to ask for now: what was never asked for, or all that is late."""
        if self.came == self._last:
            return _NOTHING
        begin, end = self.came + 1, min(self._held, default=self._last + 1) - 1
        if begin > end:
            return _NOTHING
        if now < self._ask_at or self._asked_to < begin:
            begin = max(begin, self._asked_to + 1)
            if begin > end:
                return _NOTHING
        else:
            self._ask_wait = min(2 * self._ask_wait, _ASK_SECONDS_MOST)
        self._asked_to = end
        self._ask_at = now + self._ask_wait
        counts.asked += 1
        return begin, end

    def must_tell(self, now: float) -> bool:
        if self._untold >= _ACK_MESSAGES or self._untold_bytes >= _ACK_BYTES:
            return True
        return self._tell_at is not None and now >= self._tell_at

    def told(self) -> None:
        self._untold = self._untold_bytes = 0
        self._tell_at = None

    def times(self) -> Iterator[float | None]:
        yield self._tell_at
        if self.came < self._last:
            yield self._ask_at
