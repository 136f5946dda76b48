//! Sent stream messages until they are acknowledged: what is in flight, what is lost, what to send next.

use std::collections::VecDeque;
use std::time::Instant;

use bytes::Bytes;

use crate::rtt::Rtt;
use crate::window::Delivered;

/// The sending half of the reliability layer. Sequence numbers index it, so nothing is ever searched.
///
/// A message is in exactly one state: not sent yet, in flight, or queued to be sent again. Messages in flight stand in a
/// list for the number of times they were sent, in the order of sending, so that the head of each list is the next of its
/// kind to time out. A head is always in flight; behind it there may be entries that no longer count.
#[derive(Debug, Default)]
pub(crate) struct SendQueue {
    /// Sequence number of the first slot.
    base: i64,
    /// One slot for each number from `base` on; empty once acknowledged.
    slots: VecDeque<Option<Slot>>,
    /// The first number that was never sent.
    unsent: i64,
    /// Numbers to send again, in order.
    lost: VecDeque<i64>,
    /// (number, times sent) by backoff level; an entry counts while its slot agrees.
    in_flight: [VecDeque<(i64, u32)>; LEVELS],
    /// Bytes of unacknowledged messages.
    bytes: usize,
    /// Number of unacknowledged messages.
    count: usize,
    /// Bytes of all messages so far.
    pushed: u64,
    /// Sendings so far.
    sendings: u64,
    /// The latest sendings of which an acknowledgement is known, the earliest of them last.
    latest_acknowledged: [u64; LATER_ACKS],
}

/// Backoff levels: 200, 400, 800 and at most 1,000 ms with the smallest timeout.
const LEVELS: usize = 4;

/// Acknowledgements of later sendings after which a message counts as lost.
const LATER_ACKS: usize = 3;

#[derive(Debug)]
struct Slot {
    wire: Bytes,
    /// Bytes of all messages before it.
    offset: u64,
    /// Times sent.
    sends: u32,
    /// When it was first sent on this connection, as an outage is no round-trip time, and the
    /// [mark](crate::window::Window::mark) of then.
    first_sent: Option<(Instant, Delivered)>,
    /// When it was last sent on this connection.
    sent_at: Option<Instant>,
    /// The number of its last sending, from 1.
    sending: u64,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Unsent,
    InFlight,
    Lost,
}

/// An acknowledged message.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Acknowledged {
    /// Bytes of the message.
    pub(crate) len: usize,
    /// When it was sent; `None` if that was on an earlier connection.
    pub(crate) sent: Option<Sent>,
    /// When it was sent last on this connection.
    pub(crate) sent_at: Option<Instant>,
}

/// What is known of the sending of an acknowledged message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sent {
    /// It was sent just once, at this time, with this mark.
    Once(Instant, Delivered),
    /// It was sent again, for the first time at this time.
    Again(Instant),
}

/// A message to put on the wire.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) sequence: i64,
    pub(crate) wire: Bytes,
    /// Whether it was on the wire before.
    pub(crate) again: bool,
}

impl SendQueue {
    /// The number the next message gets.
    pub(crate) fn next_sequence(&self) -> i64 {
        self.base + self.slots.len() as i64
    }

    /// Takes a finished message, whose header has [`next_sequence`](Self::next_sequence).
    pub(crate) fn push(&mut self, wire: Bytes) {
        self.bytes += wire.len();
        self.count += 1;
        let offset = self.pushed;
        self.pushed += wire.len() as u64;
        let slot = Slot {
            wire,
            offset,
            sends: 0,
            first_sent: None,
            sent_at: None,
            sending: 0,
            state: State::Unsent,
        };
        self.slots.push_back(Some(slot));
    }

    /// Bytes of unacknowledged messages.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Number of unacknowledged messages.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// How far the oldest unacknowledged number is behind the next one. What lies between may be acknowledged, but the peer
    /// has to hold it back.
    pub(crate) fn span(&self) -> usize {
        self.slots.len()
    }

    /// The same in bytes of messages.
    pub(crate) fn span_bytes(&self) -> u64 {
        self.slots.front().and_then(Option::as_ref).map_or(0, |oldest| self.pushed - oldest.offset)
    }

    /// The oldest unacknowledged number.
    pub(crate) fn oldest(&self) -> Option<i64> {
        (self.count > 0).then_some(self.base)
    }

    /// Whether a message waits that was never sent.
    pub(crate) fn has_unsent(&self) -> bool {
        self.unsent < self.next_sequence()
    }

    /// Whether anything waits to be sent, again or for the first time.
    pub(crate) fn has_pending(&self) -> bool {
        self.has_unsent() || !self.lost.is_empty()
    }

    /// Whether nothing is in flight.
    pub(crate) fn is_idle(&self) -> bool {
        self.in_flight.iter().all(VecDeque::is_empty)
    }

    /// The next message to send, which counts as sent now. Lost ones come first.
    pub(crate) fn transmit(&mut self, now: Instant, delivered: Delivered) -> Option<Outgoing> {
        let sequence = match self.lost.pop_front() {
            Some(lost) => lost,
            None if self.has_unsent() => {
                self.unsent += 1;
                self.unsent - 1
            }
            None => return None,
        };
        self.sendings += 1;
        let sending = self.sendings;
        let slot = self.slot_mut(sequence)?;
        slot.sends += 1;
        slot.first_sent.get_or_insert((now, delivered));
        slot.sent_at = Some(now);
        slot.sending = sending;
        slot.state = State::InFlight;
        let (sends, wire) = (slot.sends, slot.wire.clone());
        self.in_flight[level(sends)].push_back((sequence, sends));
        self.drop_acknowledged_prefix_of_lost();
        Some(Outgoing { sequence, wire, again: sends > 1 })
    }

    /// The bytes of an unacknowledged message.
    pub(crate) fn wire(&self, sequence: i64) -> Option<&Bytes> {
        self.slot(sequence).map(|slot| &slot.wire)
    }

    /// Puts other bytes under the number of an unacknowledged message, and queues it to be sent again if it was sent.
    pub(crate) fn replace(&mut self, sequence: i64, wire: Bytes) {
        let Some(slot) = self.slot_mut(sequence) else { return };
        let old = std::mem::replace(&mut slot.wire, wire);
        let new_len = slot.wire.len();
        let in_flight = slot.state == State::InFlight;
        self.bytes = self.bytes - old.len() + new_len;
        if in_flight {
            self.mark_lost(sequence);
            self.drop_stale_heads();
        }
    }

    /// Takes an acknowledgement; `None` for a number that is not unacknowledged or was never sent.
    pub(crate) fn acknowledge(&mut self, sequence: i64) -> Option<Acknowledged> {
        if sequence >= self.unsent {
            return None;
        }
        let index = usize::try_from(sequence.checked_sub(self.base)?).ok()?;
        let slot = self.slots.get_mut(index)?.take()?;
        self.bytes -= slot.wire.len();
        self.count -= 1;
        while let Some(None) = self.slots.front() {
            self.slots.pop_front();
            self.base += 1;
        }
        self.drop_acknowledged_prefix_of_lost();
        self.drop_stale_heads();
        if slot.sends == 1 {
            self.detect_losses(slot.sending);
        }
        Some(Acknowledged {
            len: slot.wire.len(),
            sent: slot.first_sent.map(|(at, delivered)| match slot.sends {
                1 => Sent::Once(at, delivered),
                _ => Sent::Again(at),
            }),
            sent_at: slot.sent_at,
        })
    }

    /// When the next message in flight times out.
    pub(crate) fn deadline(&self, rtt: &Rtt) -> Option<Instant> {
        let heads = self.in_flight.iter().enumerate().filter_map(|(level, list)| {
            let (sequence, _) = list.front()?;
            Some(self.slot(*sequence)?.sent_at? + rtt.timeout(level))
        });
        heads.min()
    }

    /// Queues up to `max` messages that have timed out to be sent again, the oldest first: what a peer waits for comes before
    /// what it holds back. Returns how many they are.
    pub(crate) fn expire(&mut self, now: Instant, rtt: &Rtt, max: usize) -> usize {
        let mut expired = 0;
        while expired < max
            && let Some(sequence) = self.oldest_due(now, rtt)
        {
            self.mark_lost(sequence);
            self.drop_stale_heads();
            expired += 1;
        }
        expired
    }

    /// The oldest message of all, if it has timed out, or else the oldest that has at the head of a list.
    fn oldest_due(&self, now: Instant, rtt: &Rtt) -> Option<i64> {
        let is_due = |sequence: &i64| {
            self.slot(*sequence).is_some_and(|slot| {
                let sent_at = slot.sent_at.filter(|_| slot.state == State::InFlight);
                sent_at.is_some_and(|at| at + rtt.timeout(level(slot.sends)) <= now)
            })
        };
        if is_due(&self.base) {
            return Some(self.base);
        }
        let heads = self.in_flight.iter().filter_map(|list| list.front().map(|(sequence, _)| *sequence));
        heads.filter(is_due).min()
    }

    /// Queues everything that was sent and not acknowledged to be sent again, in order: the connection was replaced.
    pub(crate) fn resend_all(&mut self) {
        self.lost.clear();
        self.in_flight.iter_mut().for_each(VecDeque::clear);
        for (sequence, slot) in (self.base..self.unsent).zip(&mut self.slots) {
            if let Some(slot) = slot {
                slot.state = State::Lost;
                slot.first_sent = None;
                slot.sent_at = None;
                self.lost.push_back(sequence);
            }
        }
    }

    /// The sending with this number arrived. What was sent before three of those that did, again or for the first time, and
    /// is still in flight, is lost. (Which sending of a repeated message arrived is not known, so those prove nothing.)
    fn detect_losses(&mut self, arrived: u64) {
        let later = self.latest_acknowledged.partition_point(|sending| *sending > arrived);
        if later == LATER_ACKS {
            return;
        }
        self.latest_acknowledged[later..].rotate_right(1);
        self.latest_acknowledged[later] = arrived;
        let third = self.latest_acknowledged[LATER_ACKS - 1];
        for level in 0..LEVELS {
            while let Some((sequence, _)) = self.in_flight[level].front().copied()
                && self.slot(sequence).is_some_and(|slot| slot.sending < third)
            {
                self.in_flight[level].pop_front();
                self.mark_lost(sequence);
                self.drop_stale_heads();
            }
        }
    }

    /// Nothing goes before the oldest message: the peer may take nothing else.
    fn mark_lost(&mut self, sequence: i64) {
        let oldest = sequence == self.base;
        let Some(slot) = self.slot_mut(sequence) else { return };
        slot.state = State::Lost;
        if oldest {
            self.lost.push_front(sequence);
        } else {
            self.lost.push_back(sequence);
        }
    }

    fn drop_stale_heads(&mut self) {
        for level in 0..LEVELS {
            while let Some((sequence, sends)) = self.in_flight[level].front().copied()
                && !self.slot(sequence).is_some_and(|slot| slot.is_in_flight(sends))
            {
                self.in_flight[level].pop_front();
            }
        }
    }

    /// Numbers that were acknowledged while they waited to be sent again need no sending.
    fn drop_acknowledged_prefix_of_lost(&mut self) {
        while let Some(sequence) = self.lost.front()
            && !self.slot(*sequence).is_some_and(|slot| slot.state == State::Lost)
        {
            self.lost.pop_front();
        }
    }

    fn slot(&self, sequence: i64) -> Option<&Slot> {
        self.slots.get(usize::try_from(sequence - self.base).ok()?)?.as_ref()
    }

    fn slot_mut(&mut self, sequence: i64) -> Option<&mut Slot> {
        self.slots.get_mut(usize::try_from(sequence - self.base).ok()?)?.as_mut()
    }
}

impl Slot {
    fn is_in_flight(&self, sends: u32) -> bool {
        self.state == State::InFlight && self.sends == sends
    }
}

/// Backoff level of a message that was sent this often.
fn level(sends: u32) -> usize {
    (sends as usize).clamp(1, LEVELS) - 1
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::window::Window;

    #[expect(clippy::disallowed_methods, reason = "an origin for virtual time: only differences matter")]
    fn origin() -> Instant {
        Instant::now()
    }

    fn queue(count: u8) -> SendQueue {
        let mut queue = SendQueue::default();
        for number in 0..count {
            queue.push(Bytes::from(vec![number; 10]));
        }
        queue
    }

    fn mark(now: Instant) -> Delivered {
        Window::new(0, 0).mark(now, true)
    }

    fn transmit(queue: &mut SendQueue, now: Instant) -> Option<Outgoing> {
        queue.transmit(now, mark(now))
    }

    fn sent(queue: &mut SendQueue, now: Instant) -> Vec<u8> {
        std::iter::from_fn(|| transmit(queue, now)).map(|outgoing| outgoing.wire[0]).collect()
    }

    #[test]
    fn messages_go_in_order_and_are_kept_until_acknowledged() {
        let mut queue = queue(4);
        assert_eq!(sent(&mut queue, origin()), [0, 1, 2, 3]);
        assert_eq!((queue.bytes(), queue.count(), queue.oldest()), (40, 4, Some(0)));
        assert!(queue.acknowledge(1).is_some());
        assert!(queue.acknowledge(1).is_none());
        assert_eq!(queue.oldest(), Some(0));
        assert!(queue.acknowledge(0).is_some());
        assert_eq!((queue.bytes(), queue.count(), queue.oldest()), (20, 2, Some(2)));
    }

    #[test]
    fn acknowledgements_of_what_was_never_sent_are_ignored() {
        let mut queue = queue(2);
        transmit(&mut queue, origin());
        for sequence in [-1, i64::MIN, 1, 2, i64::MAX] {
            assert!(queue.acknowledge(sequence).is_none(), "{sequence}");
        }
        assert_eq!(queue.count(), 2);
    }

    #[test]
    fn each_message_has_its_own_deadline_and_backs_off() {
        let rtt = Rtt::new();
        let start = origin();
        let ms = Duration::from_millis;
        let mut queue = queue(2);
        transmit(&mut queue, start);
        transmit(&mut queue, start + ms(50));
        assert_eq!(queue.deadline(&rtt), Some(start + ms(200)));
        assert_eq!(queue.expire(start + ms(200), &rtt, 9), 1);
        assert_eq!(sent(&mut queue, start + ms(200)), [0]);
        assert_eq!(queue.deadline(&rtt), Some(start + ms(250)));
        assert_eq!(queue.expire(start + ms(250), &rtt, 9), 1);
        assert_eq!(sent(&mut queue, start + ms(250)), [1]);
        assert_eq!(queue.deadline(&rtt), Some(start + ms(600)));
    }

    /// A peer that holds nothing back takes only this one.
    #[test]
    fn the_oldest_message_is_repeated_before_what_was_sent_longer_ago() {
        let (rtt, second) = (Rtt::new(), Duration::from_secs(1));
        let mut now = origin();
        let mut queue = queue(3);
        for _ in 0..4 {
            assert_eq!(sent(&mut queue, now), [0, 1, 2]);
            now += second;
            assert_eq!(queue.expire(now, &rtt, 9), 3);
        }
        assert_eq!(sent(&mut queue, now), [0, 1, 2]);
        assert_eq!(queue.expire(now + second, &rtt, 1), 1);
        assert_eq!(sent(&mut queue, now + second), [0]);
        assert_eq!(queue.expire(now + 2 * second, &rtt, 1), 1);
        assert_eq!(sent(&mut queue, now + 2 * second), [0]);
        queue.expire(now + 3 * second, &rtt, 2);
        queue.expire(now + 4 * second, &rtt, 1);
        assert_eq!(sent(&mut queue, now + 4 * second), [0, 1, 2]);
    }

    #[test]
    fn three_later_acknowledgements_mean_lost() {
        let mut queue = queue(5);
        sent(&mut queue, origin());
        queue.acknowledge(1);
        queue.acknowledge(2);
        assert!(!queue.has_pending());
        queue.acknowledge(3);
        assert_eq!(sent(&mut queue, origin()), [0]);
        queue.acknowledge(4);
        assert!(!queue.has_pending(), "what was sent before says nothing of what was sent again");
    }

    #[test]
    fn what_was_sent_again_and_lost_again_is_noticed_too() {
        let mut queue = queue(4);
        sent(&mut queue, origin());
        for number in 1..4 {
            queue.acknowledge(number);
        }
        assert_eq!(sent(&mut queue, origin()), [0]);
        (4..7).for_each(|number| queue.push(Bytes::from(vec![number; 10])));
        assert_eq!(sent(&mut queue, origin()), [4, 5, 6]);
        queue.acknowledge(5);
        queue.acknowledge(6);
        assert!(!queue.has_pending());
        queue.acknowledge(4);
        assert_eq!(sent(&mut queue, origin()), [0]);
    }

    #[test]
    fn losses_are_noticed_however_far_apart() {
        let mut queue = queue(250);
        sent(&mut queue, origin());
        for number in (0..250).filter(|number| number % 100 != 0) {
            queue.acknowledge(number);
        }
        assert_eq!(sent(&mut queue, origin()), [0, 100, 200]);
        assert_eq!((queue.span(), queue.span_bytes()), (250, 2500));
    }

    #[test]
    fn what_is_acknowledged_while_it_waits_is_not_sent_again() {
        let mut queue = queue(3);
        sent(&mut queue, origin());
        queue.resend_all();
        queue.acknowledge(0);
        queue.acknowledge(1);
        assert_eq!(sent(&mut queue, origin()), [2]);
    }

    #[test]
    fn a_new_connection_gets_everything_unacknowledged_in_order() {
        let mut queue = queue(4);
        let now = origin();
        (0..3).for_each(|_| drop(transmit(&mut queue, now)));
        queue.acknowledge(1);
        queue.expire(now + Duration::from_secs(9), &Rtt::new(), 1);
        queue.resend_all();
        assert_eq!(sent(&mut queue, now), [0, 2, 3]);
    }

    #[test]
    fn the_span_begins_at_the_oldest_message_and_an_empty_queue_has_none() {
        let mut queue = queue(4);
        sent(&mut queue, origin());
        queue.acknowledge(0);
        assert_eq!((queue.span(), queue.span_bytes(), queue.oldest()), (3, 30, Some(1)));
        for number in 1..4 {
            queue.acknowledge(number);
        }
        assert_eq!((queue.span(), queue.span_bytes(), queue.oldest()), (0, 0, None));
    }

    #[test]
    fn what_is_known_of_a_sending_is_that_of_this_connection() {
        let (mut queue, now) = (queue(3), origin());
        let later = now + Duration::from_secs(1);
        assert!(queue.is_idle());
        sent(&mut queue, now);
        assert!(!queue.is_idle());
        let first = queue.acknowledge(0).unwrap();
        assert_eq!((first.sent, first.sent_at), (Some(Sent::Once(now, mark(now))), Some(now)));
        queue.resend_all();
        assert!(queue.is_idle());
        let earlier = queue.acknowledge(1).unwrap();
        assert_eq!((earlier.sent, earlier.sent_at), (None, None));
        assert!(transmit(&mut queue, later).unwrap().again);
        let again = queue.acknowledge(2).unwrap();
        assert_eq!((again.sent, again.sent_at), (Some(Sent::Again(later)), Some(later)));
        assert!(queue.is_idle());
    }

    #[test]
    fn other_bytes_under_a_number_are_sent_if_the_first_ones_were() {
        let mut queue = queue(3);
        let now = origin();
        transmit(&mut queue, now);
        queue.replace(0, Bytes::from_static(b"abcd"));
        queue.replace(2, Bytes::from_static(b"longer than it was"));
        queue.replace(3, Bytes::from_static(b"nothing"));
        assert_eq!(queue.bytes(), 4 + 10 + 18);
        assert_eq!(queue.wire(0).unwrap(), "abcd");
        let order: Vec<i64> =
            std::iter::from_fn(|| transmit(&mut queue, now)).map(|outgoing| outgoing.sequence).collect();
        assert_eq!(order, [0, 1, 2]);
        assert!(!queue.has_pending());
    }

    #[test]
    fn acknowledgements_in_another_order_tell_no_more_than_in_order() {
        let mut queue = queue(6);
        sent(&mut queue, origin());
        for number in [5, 1, 2] {
            queue.acknowledge(number);
        }
        assert_eq!(sent(&mut queue, origin()), [0], "one that was sent later is known of the others");
    }
}
