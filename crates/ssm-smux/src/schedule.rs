//! [`Schedule`]: whose turn it is to send.

use std::collections::{BTreeMap, VecDeque};

use crate::StreamId;

/// Shares what goes out between streams by deficit round robin, in bytes. A stream that has sent little in a round goes ahead
/// of the others, as with fq_codel, so a keystroke waits for one message and not for one of every upload.
///
/// The owner
/// 1. calls [`ready`](Self::ready) for a stream that may have something to send;
/// 2. serves the stream that [`next`](Self::next) gives, and calls [`sent`](Self::sent) if it had something. A stream that
///    had nothing is out of the line until it is ready again;
/// 3. calls [`forget`](Self::forget) at the end of a stream.
///
/// Streams that always have something to send are apart by at most two quanta, and by one when every message is a quantum. Nobody
/// starves: a stream that goes ahead does so with bytes of its own share.
#[derive(Debug)]
pub struct Schedule {
    /// Bytes a stream may send in a round.
    quantum: i64,
    /// The round under way. A round is over when every stream in `bulk` has had its turn.
    round: u64,
    /// Streams that have sent little in this round.
    sparse: VecDeque<StreamId>,
    /// The others, and the round in which each has its turn.
    bulk: VecDeque<(StreamId, u64)>,
    shares: BTreeMap<StreamId, Share>,
}

/// What a stream may send.
#[derive(Debug)]
struct Share {
    /// Bytes left in `round`. Below zero after a message that was longer.
    credit: i64,
    /// The round the credit is for.
    round: u64,
    place: Place,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    InLine,
    /// It is being served, or has nothing to send.
    Out,
}

impl Schedule {
    /// Bytes a stream may send in a round before it stands in line with the others.
    pub const SPARSE_LEN: usize = 4096;

    /// Nobody is in line yet. A stream may send `quantum` bytes in a round: best what a message takes.
    pub fn new(quantum: usize) -> Self {
        let mut schedule = Self {
            quantum: 1,
            round: 0,
            sparse: VecDeque::new(),
            bulk: VecDeque::new(),
            shares: BTreeMap::new(),
        };
        schedule.set_quantum(quantum);
        schedule
    }

    /// Messages have another length. Counts from the next round of each stream.
    pub fn set_quantum(&mut self, quantum: usize) {
        self.quantum = i64::try_from(quantum).unwrap_or(i64::MAX / 4).max(1);
    }

    /// The stream may have something to send.
    pub fn ready(&mut self, id: StreamId) {
        let fresh = Share { credit: self.quantum, round: self.round, place: Place::Out };
        let share = self.shares.entry(id).or_insert(fresh);
        if share.place == Place::Out {
            share.renew(self.round, self.quantum);
            self.stand_in_line(id);
        }
    }

    /// The stream to serve now: one that has sent little, or else the next of the others.
    #[expect(clippy::should_implement_trait, reason = "an iterator would borrow what it changes")]
    pub fn next(&mut self) -> Option<StreamId> {
        self.next_sparse().or_else(|| self.next_bulk())
    }

    /// The stream to serve now, if there is one that has sent little.
    pub fn next_sparse(&mut self) -> Option<StreamId> {
        while let Some(id) = self.sparse.pop_front() {
            if let Some(share) = self.shares.get_mut(&id) {
                share.place = Place::Out;
                return Some(id);
            }
        }
        None
    }

    /// The stream that was given by [`next`](Self::next) has sent `len` bytes, and may have more.
    pub fn sent(&mut self, id: StreamId, len: usize) {
        let Some(share) = self.shares.get_mut(&id) else { return };
        share.credit = share.credit.saturating_sub(i64::try_from(len).unwrap_or(i64::MAX));
        if share.place == Place::Out {
            self.stand_in_line(id);
        }
    }

    /// The stream is over.
    pub fn forget(&mut self, id: StreamId) {
        self.shares.remove(&id);
    }

    fn next_bulk(&mut self) -> Option<StreamId> {
        while let Some((id, due)) = self.bulk.pop_front() {
            let Some(share) = self.shares.get_mut(&id) else { continue };
            self.round = self.round.max(due);
            share.renew(self.round, self.quantum);
            if share.credit > 0 {
                share.place = Place::Out;
                return Some(id);
            }
            self.bulk.push_back((id, self.round + 1));
        }
        None
    }

    fn stand_in_line(&mut self, id: StreamId) {
        let Some(share) = self.shares.get_mut(&id) else { return };
        share.place = Place::InLine;
        let sparse = i64::try_from(Self::SPARSE_LEN).unwrap_or(i64::MAX);
        if share.credit > 0 && share.credit > self.quantum - sparse {
            self.sparse.push_back(id);
        } else if share.credit > 0 {
            // The rest of its turn.
            self.bulk.push_front((id, self.round));
        } else {
            self.bulk.push_back((id, self.round + 1));
        }
    }
}

impl Share {
    /// A new round gives a new quantum. What was left of an old one is lost, what was too much is owed.
    fn renew(&mut self, round: u64, quantum: i64) {
        if self.round < round {
            self.round = round;
            self.credit = self.credit.saturating_add(quantum).min(quantum);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUANTUM: usize = 32 * 1024;

    fn id(number: u32) -> StreamId {
        StreamId::from(number)
    }

    /// `count` streams that always have something to send, numbered from 0.
    fn uploads(count: u32) -> Schedule {
        let mut schedule = Schedule::new(QUANTUM);
        (0..count).for_each(|number| schedule.ready(id(number)));
        schedule
    }

    fn serve(schedule: &mut Schedule, len: usize) -> u32 {
        let next = schedule.next().unwrap();
        schedule.sent(next, len);
        next.into()
    }

    #[test]
    fn full_messages_take_turns() {
        let mut schedule = uploads(3);
        let served: Vec<_> = (0..9).map(|_| serve(&mut schedule, QUANTUM)).collect();
        assert_eq!(served, [0, 1, 2, 0, 1, 2, 0, 1, 2]);
    }

    #[test]
    fn short_messages_go_on_until_the_share_is_used_up() {
        let mut schedule = uploads(2);
        for _ in 0..2 {
            serve(&mut schedule, QUANTUM);
        }
        let served: Vec<_> = (0..4).map(|_| serve(&mut schedule, QUANTUM / 2)).collect();
        assert_eq!(served, [0, 0, 1, 1]);
    }

    #[test]
    fn a_stream_that_becomes_ready_is_next() {
        let mut schedule = uploads(100);
        for _ in 0..250 {
            serve(&mut schedule, QUANTUM);
        }
        for _ in 0..20 {
            schedule.ready(id(1000));
            assert_eq!(serve(&mut schedule, 100), 1000);
            assert_eq!(schedule.next(), Some(id(1000)), "now it has nothing more");
            assert_ne!(serve(&mut schedule, QUANTUM), 1000);
        }
    }

    #[test]
    fn going_ahead_is_at_the_cost_of_the_own_share() {
        let mut schedule = uploads(1);
        serve(&mut schedule, QUANTUM);
        let (mut ahead, mut upload) = (0, 0);
        // It says it is ready before every message, however little it sends.
        for _ in 0..10_000 {
            schedule.ready(id(1));
            match serve(&mut schedule, 500) {
                1 => ahead += 500,
                _ => upload += 500,
            }
        }
        assert!(ahead <= upload + QUANTUM, "{ahead} against {upload}");
    }

    #[test]
    fn a_stream_without_anything_to_send_is_out_of_the_line() {
        let mut schedule = uploads(2);
        assert_eq!(schedule.next(), Some(id(0)));
        assert_eq!(serve(&mut schedule, QUANTUM), 1);
        assert_eq!(serve(&mut schedule, QUANTUM), 1);
        schedule.ready(id(0));
        schedule.ready(id(0));
        assert_eq!(schedule.next(), Some(id(0)));
        assert_eq!(schedule.next(), Some(id(1)));
        assert_eq!(schedule.next(), None);
    }

    #[test]
    fn a_forgotten_stream_is_not_served() {
        let mut schedule = uploads(3);
        serve(&mut schedule, QUANTUM);
        schedule.forget(id(0));
        schedule.forget(id(1));
        schedule.sent(id(1), 5);
        assert_eq!(schedule.next(), Some(id(2)));
        assert_eq!(schedule.next(), None);
    }

    #[test]
    fn debts_of_long_messages_are_paid_back() {
        let mut schedule = uploads(2);
        schedule.set_quantum(1000);
        for _ in 0..2 {
            serve(&mut schedule, QUANTUM);
        }
        let mut sent = [QUANTUM, QUANTUM];
        for _ in 0..1000 {
            let stream = serve(&mut schedule, 10_000);
            sent[stream as usize] += 10_000;
        }
        assert!(sent[0].abs_diff(sent[1]) <= 20_000, "{sent:?}");
    }
}
