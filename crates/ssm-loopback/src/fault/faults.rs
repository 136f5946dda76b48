//! The faults in force, shared by all sessions of a loopback, and those that are not of a single session.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use ssm_proto::Layout;

use super::spec::{Cell, Destination, Dial, Fault, Kind, Refusal, Share};

/// All faults of a loopback.
#[derive(Debug)]
pub(crate) struct Faults {
    list: Mutex<List>,
    /// Counts changes of the list, so that a relay learns of them without taking the lock. 0: there never was any fault.
    generation: AtomicU64,
    sessions: AtomicU64,
}

#[derive(Debug, Default)]
struct List {
    entries: Vec<Entry>,
    next: u64,
}

/// A fault in force. Its number is the same in every run that adds the same faults in the same order.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) number: u64,
    pub(super) fault: Arc<Fault>,
    rng: ChaCha8Rng,
    done: u32,
}

impl Default for Faults {
    fn default() -> Self {
        Self { list: Mutex::default(), generation: AtomicU64::new(0), sessions: AtomicU64::new(0) }
    }
}

impl Faults {
    /// Adds a fault, which holds until the guard is dropped.
    pub(crate) fn add(self: &Arc<Self>, fault: Fault) -> FaultGuard {
        FaultGuard { faults: Arc::downgrade(self), number: self.add_for_good(fault) }
    }

    /// Adds a fault and returns its number.
    pub(crate) fn add_for_good(&self, fault: Fault) -> u64 {
        let mut list = self.lock();
        list.next += 1;
        let number = list.next;
        let fault = Arc::new(fault);
        list.entries.push(Entry { number, fault, rng: ChaCha8Rng::seed_from_u64(0), done: 0 });
        self.reseed(&mut list);
        number
    }

    fn remove(&self, number: u64) {
        let mut list = self.lock();
        list.entries.retain(|entry| entry.number != number);
        self.generation.fetch_add(1, Ordering::Release);
    }

    /// The generators of calls start anew with every fault that is added: a seed may come after the faults it is for.
    fn reseed(&self, list: &mut List) {
        let seed = list.seed();
        for entry in &mut list.entries {
            entry.rng = generator(entry.fault.scope.seed.unwrap_or(seed), entry.number, u64::MAX);
        }
        self.generation.fetch_add(1, Ordering::Release);
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// The number of a new session, from 0 on.
    pub(super) fn session(&self) -> u64 {
        self.sessions.fetch_add(1, Ordering::Relaxed)
    }

    /// The faults in force and the seed of those that have none, as of the generation that is returned.
    pub(super) fn snapshot(&self) -> (u64, Vec<Entry>, u64) {
        let list = self.lock();
        (self.generation(), list.entries.clone(), list.seed())
    }

    /// Whether ResumeSession is refused this time, and how.
    pub(crate) fn resume(&self) -> Option<Refusal> {
        self.call(|kind| if let Kind::Resume(refusal) = kind { Some(*refusal) } else { None })
    }

    /// Whether a client's upgrade is refused this time, and with which status.
    pub(crate) fn upgrade(&self) -> Option<u16> {
        self.call(|kind| if let Kind::Upgrade(status) = kind { Some(*status) } else { None })
    }

    /// Whether the token of a resume is used up already.
    pub(crate) fn token_is_used(&self) -> bool {
        self.call(|kind| matches!(kind, Kind::TokenUsed).then_some(())).is_some()
    }

    /// What a resume does to the cell of the session.
    pub(crate) fn cell(&self) -> Option<Cell> {
        self.call(|kind| if let Kind::Cell(cell) = kind { Some(*cell) } else { None })
    }

    /// Whether URLs of other cells than the session's are refused.
    pub(crate) fn cells_expire(&self) -> bool {
        self.any(|kind| matches!(kind, Kind::Cell(_)).then_some(())).is_some()
    }

    /// What becomes of a connection to a destination.
    pub(crate) fn dial(&self) -> Option<Dial> {
        self.call(|kind| if let Kind::Dial(dial) = kind { Some(*dial) } else { None })
    }

    /// How a new connection's destination behaves.
    pub(crate) fn destination(&self) -> Option<Destination> {
        self.call(|kind| if let Kind::Destination(destination) = kind { Some(*destination) } else { None })
    }

    /// How long an agent leaves what comes after its start unacknowledged.
    pub(crate) fn unready(&self) -> Option<std::time::Duration> {
        self.any(|kind| if let Kind::Unready(time) = kind { Some(*time) } else { None })
    }

    /// Whether agents repeat their handshake request.
    pub(crate) fn handshake_again(&self) -> bool {
        self.any(|kind| matches!(kind, Kind::HandshakeAgain).then_some(())).is_some()
    }

    /// The header of the service's own messages.
    pub(crate) fn layout(&self) -> Option<Layout> {
        self.any(|kind| if let Kind::Header(layout) = kind { Some(*layout) } else { None })
    }

    fn any<T>(&self, find: impl Fn(&Kind) -> Option<T>) -> Option<T> {
        if self.generation() == 0 {
            return None;
        }
        self.lock().entries.iter().find_map(|entry| find(&entry.fault.kind))
    }

    /// As [`any`](Self::any), counting the calls and rolling the dice.
    fn call<T>(&self, find: impl Fn(&Kind) -> Option<T>) -> Option<T> {
        if self.generation() == 0 {
            return None;
        }
        self.lock().entries.iter_mut().find_map(|entry| {
            let found = find(&entry.fault.kind)?;
            let scope = &entry.fault.scope;
            let struck = strikes(&mut entry.rng, scope.odds.unwrap_or(Share::ALWAYS));
            if !struck || scope.times.is_some_and(|times| entry.done >= times) {
                return None;
            }
            entry.done += 1;
            Some(found)
        })
    }

    fn lock(&self) -> MutexGuard<'_, List> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl List {
    fn seed(&self) -> u64 {
        let seeds = self.entries.iter().rev();
        seeds
            .map(|entry| &entry.fault.kind)
            .find_map(|kind| if let Kind::Seed(seed) = kind { Some(*seed) } else { None })
            .unwrap_or(0)
    }
}

/// A generator that gives the same numbers for the same seed, fault and use.
pub(super) fn generator(seed: u64, fault: u64, of: u64) -> ChaCha8Rng {
    let mut key = [0; 32];
    for (part, value) in key.chunks_exact_mut(8).zip([seed, fault, of, 0]) {
        part.copy_from_slice(&value.to_le_bytes());
    }
    ChaCha8Rng::from_seed(key)
}

/// Rolls the dice once.
pub(super) fn strikes(rng: &mut ChaCha8Rng, share: Share) -> bool {
    rng.next_u32() % 1_000_000 < share.0
}

/// Keeps a fault in force; dropping it takes the fault away.
#[must_use = "the fault is taken away when its guard is dropped"]
#[derive(Debug)]
pub struct FaultGuard {
    faults: Weak<Faults>,
    number: u64,
}

impl Drop for FaultGuard {
    fn drop(&mut self) {
        if let Some(faults) = self.faults.upgrade() {
            faults.remove(self.number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(specs: &[&str]) -> Arc<Faults> {
        let faults = Arc::new(Faults::default());
        for spec in specs {
            faults.add_for_good(spec.parse().unwrap());
        }
        faults
    }

    #[test]
    fn calls_are_refused_so_many_times_and_at_the_odds_of_the_seed() {
        let faults = with(&["resume=403,times=2"]);
        let answers: Vec<bool> = (0..4).map(|_| faults.resume().is_some()).collect();
        assert_eq!(answers, [true, true, false, false]);
        let run = |seed| {
            let faults = with(&["upgrade=503,odds=50%", &format!("seed={seed}")]);
            (0..64).map(|_| faults.upgrade().is_some()).collect::<Vec<_>>()
        };
        assert_eq!(run(1), run(1));
        assert_ne!(run(1), run(2));
        assert!((10..54).contains(&run(1).iter().filter(|refused| **refused).count()));
    }

    #[test]
    fn a_fault_ends_with_its_guard() {
        let faults = with(&[]);
        let guard = faults.add("cell=rotate".parse().unwrap());
        assert!(faults.cells_expire());
        drop(guard);
        assert!(!faults.cells_expire());
    }
}
