//! How large data messages may be: found out, not guessed.
//!
//! In port sessions a flag message with value 0, padded to the size under test, has no effect on the agent, which acknowledges it
//! (agent `port_basic.go`, `port_mux.go`: four bytes are read and match no flag). A size whose probe is acknowledged is used. One
//! whose probe is not, or at which the gateway closes the socket, is not tried again; its probe is sent on in a four-byte form
//! under the same number, so nothing can be lost or doubled.
//!
//! In sessions with a terminal, where it is wanted ([`Config::terminal_probe`](crate::Config::terminal_probe)), a size message does the
//! same: it is JSON, padded by spaces.
//!
//! Sessions share what they find out ([`KnownSizes`]). Each begins with the size that everybody takes and proves a larger one with a
//! probe of its own, because its agent and gateway may be others; but one whose probe failed is tried by nobody again, and the
//! largest that was acknowledged is tried first.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::Room;

/// Most messages that may follow a probe before its verdict: they wait behind it at the agent.
const BEHIND_MAX: i64 = 16;

/// How many of those are not for bulk data.
const BEHIND_RESERVE: i64 = 4;

/// A probe holds a flag.
const MIN_PROBE: usize = 4;

/// Connections in a row without any acknowledgement that take the size back.
const USELESS_MAX: u32 = 3;

/// What sessions have found out about how large messages may be. Clones share it, and so do the sessions whose
/// [`Config`](crate::Config)s are clones of one.
#[derive(Debug, Clone, Default)]
pub struct KnownSizes(Arc<Known>);

#[derive(Debug)]
struct Known {
    /// The largest that was acknowledged; 0 for none.
    taken: AtomicUsize,
    /// The smallest that was not; the largest number for none.
    failed: AtomicUsize,
}

impl KnownSizes {
    /// The largest payload size that was acknowledged, in bytes; `None` when none was beyond what every session begins with.
    pub fn largest_taken(&self) -> Option<usize> {
        Some(self.0.taken.load(Ordering::Relaxed)).filter(|size| *size > 0)
    }

    /// The smallest payload size that failed, in bytes. It is not tried again, nor is a larger one.
    pub fn smallest_failed(&self) -> Option<usize> {
        Some(self.0.failed.load(Ordering::Relaxed)).filter(|size| *size < usize::MAX)
    }

    fn took(&self, size: usize) {
        self.0.taken.fetch_max(size, Ordering::Relaxed);
    }

    fn failed(&self, size: usize) {
        self.0.failed.fetch_min(size, Ordering::Relaxed);
    }
}

impl Default for Known {
    fn default() -> Self {
        Self { taken: AtomicUsize::new(0), failed: AtomicUsize::new(usize::MAX) }
    }
}

/// The payload size in use, and the search for a larger one.
#[derive(Debug)]
pub(crate) struct SizeDiscovery {
    known: KnownSizes,
    /// What every agent and gateway takes.
    base: usize,
    /// In use.
    current: usize,
    /// Never more than this.
    limit: usize,
    /// The first data message, until it is acknowledged: nothing is probed before.
    first: First,
    probe: Option<Probe>,
    /// Connections in a row on which nothing was acknowledged.
    useless: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum First {
    Unsent,
    Sent(i64),
    Acknowledged,
}

#[derive(Debug, Clone, Copy)]
struct Probe {
    sequence: i64,
    size: usize,
    sent: bool,
}

impl SizeDiscovery {
    /// Starts with `base` and may go up to `limit`, in powers of two or at once to what is known to be taken.
    pub(crate) fn new(base: usize, limit: usize, known: KnownSizes) -> Self {
        Self {
            known,
            base,
            current: base,
            limit: limit.max(base),
            first: First::Unsent,
            probe: None,
            useless: 0,
        }
    }

    /// The size in use.
    pub(crate) fn current(&self) -> usize {
        self.current
    }

    /// A data message of `len` bytes is about to be sent under `sequence`. Returns the size to probe in front of it, if it is time
    /// to: bulk data waits, which shows in a message that is as good as full.
    pub(crate) fn sending(&mut self, len: usize, sequence: i64) -> Option<usize> {
        if self.first == First::Unsent {
            self.first = First::Sent(sequence);
        }
        let bulk = len >= self.current - self.current / 16;
        let due = bulk && self.first == First::Acknowledged && self.probe.is_none();
        if due { self.next_size() } else { None }
    }

    /// The next size to try, if there is one.
    fn next_size(&self) -> Option<usize> {
        let double = self.current.saturating_mul(2).max(MIN_PROBE);
        let taken = self.known.largest_taken().unwrap_or(0);
        let fits = |size: &usize| {
            *size <= self.limit && self.known.smallest_failed().is_none_or(|failed| *size < failed)
        };
        [taken, double].into_iter().filter(|size| *size >= double).find(fits)
    }

    /// A probe of `size` was queued under `sequence`.
    pub(crate) fn probing(&mut self, sequence: i64, size: usize) {
        self.probe = Some(Probe { sequence, size, sent: false });
    }

    /// A message was handed to the socket; true if it is the probe, for the first time.
    pub(crate) fn transmitted(&mut self, sequence: i64) -> bool {
        match &mut self.probe {
            Some(probe) if probe.sequence == sequence && !probe.sent => {
                probe.sent = true;
                true
            }
            _ => false,
        }
    }

    /// A message was acknowledged; true if the size in use has grown by it.
    pub(crate) fn acknowledged(&mut self, sequence: i64) -> bool {
        if self.first == First::Sent(sequence) {
            self.first = First::Acknowledged;
        }
        match self.probe {
            Some(probe) if probe.sequence == sequence => {
                self.current = probe.size;
                self.known.took(probe.size);
                self.probe = None;
                true
            }
            _ => false,
        }
    }

    /// The probe that is on its way has failed. Returns its number; it has to be shortened.
    pub(crate) fn failed(&mut self) -> Option<i64> {
        let probe = self.probe.take_if(|probe| probe.sent)?;
        self.known.failed(probe.size);
        Some(probe.sequence)
    }

    /// A connection was lost on which something waited to be acknowledged; `useful` if anything was. A gateway that does not take a size closes the
    /// socket, so connections that do not last take the size back to where it began, for good. Other sessions are not told: it
    /// may have been the network.
    pub(crate) fn cut(&mut self, useful: bool) {
        self.useless = if useful { 0 } else { self.useless + 1 };
        if self.useless == USELESS_MAX {
            self.current = self.base;
            self.limit = self.base;
        }
    }

    /// Whether the message `sequence` would be one too many behind a probe.
    pub(crate) fn blocks(&self, sequence: i64, room: Room) -> bool {
        let most = match room {
            Room::Open => BEHIND_MAX - BEHIND_RESERVE,
            Room::Reserve => BEHIND_MAX,
        };
        self.probe.is_some_and(|probe| sequence - probe.sequence > most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn started() -> SizeDiscovery {
        sharing(&KnownSizes::default())
    }

    fn sharing(known: &KnownSizes) -> SizeDiscovery {
        let mut size = SizeDiscovery::new(1024, 32 * 1024, known.clone());
        assert_eq!(size.sending(1024, 5), None, "nothing was acknowledged yet");
        size.acknowledged(5);
        size
    }

    #[test]
    fn sizes_double_while_bulk_data_waits_and_probes_are_acknowledged() {
        let mut size = started();
        assert_eq!(size.sending(10, 6), None, "a keystroke is not bulk");
        for (sequence, probed) in (6..).zip([2048, 4096, 8192, 16_384, 32_768]) {
            assert_eq!(size.sending(size.current(), sequence), Some(probed));
            size.probing(sequence, probed);
            assert_eq!(size.sending(size.current(), sequence + 1), None, "one probe at a time");
            assert!(size.acknowledged(sequence));
            assert_eq!(size.current(), probed);
        }
        assert_eq!(size.sending(size.current(), 20), None);
    }

    #[test]
    fn a_failed_size_is_not_tried_again() {
        let mut size = started();
        size.probing(6, 2048);
        assert_eq!(size.failed(), None, "it was not sent yet");
        assert!(size.transmitted(6));
        assert!(!size.transmitted(6));
        assert_eq!(size.failed(), Some(6));
        assert_eq!(size.sending(1024, 7), None);
        assert!(!size.acknowledged(6), "its short form proves nothing");
        assert_eq!(size.current(), 1024);
    }

    #[test]
    fn a_size_that_another_session_found_is_tried_first() {
        let known = KnownSizes::default();
        let mut first = sharing(&known);
        for (sequence, size) in (6..).zip([2048, 4096, 8192]) {
            first.probing(sequence, size);
            first.acknowledged(sequence);
        }
        let mut second = sharing(&known);
        assert_eq!(second.sending(1024, 6), Some(8192));
        second.probing(6, 8192);
        assert!(second.acknowledged(6));
        assert_eq!(second.sending(8192, 7), Some(16_384), "and from there on as ever");
    }

    #[test]
    fn a_size_that_failed_in_another_session_is_not_tried() {
        let known = KnownSizes::default();
        let mut first = sharing(&known);
        first.probing(6, 4096);
        assert!(first.transmitted(6));
        assert_eq!(first.failed(), Some(6));
        assert_eq!(known.smallest_failed(), Some(4096));
        let mut second = sharing(&known);
        assert_eq!(second.sending(1024, 6), Some(2048));
        second.probing(6, 2048);
        assert!(second.acknowledged(6));
        assert_eq!(second.sending(2048, 7), None);
    }

    #[test]
    fn where_a_known_size_fails_smaller_ones_are_tried() {
        let known = KnownSizes::default();
        known.took(32 * 1024);
        let mut size = sharing(&known);
        assert_eq!(size.sending(1024, 6), Some(32 * 1024));
        size.probing(6, 32 * 1024);
        assert!(size.transmitted(6));
        assert_eq!(size.failed(), Some(6));
        assert_eq!(size.sending(1024, 7), Some(2048));
    }

    #[test]
    fn few_messages_follow_a_probe() {
        let mut size = started();
        size.probing(6, 2048);
        assert!(!size.blocks(18, Room::Open));
        assert!(size.blocks(19, Room::Open));
        assert!(!size.blocks(22, Room::Reserve));
        assert!(size.blocks(23, Room::Reserve));
    }

    #[test]
    fn where_nobody_has_tried_anything_nothing_is_known() {
        let known = KnownSizes::default();
        assert_eq!((known.largest_taken(), known.smallest_failed()), (None, None));
    }

    #[test]
    fn messages_that_are_full_but_for_a_sixteenth_are_bulk() {
        assert_eq!(started().sending(1024 - 64 - 1, 6), None);
        assert_eq!(started().sending(1024 - 64, 6), Some(2048));
    }
}
