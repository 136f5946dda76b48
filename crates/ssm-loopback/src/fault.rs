//! Faults on purpose.
//!
//! A [`Fault`] is written as a user writes it, `loss=5%,direction=up`, and drawn from a seed: see [`help`]. A rule is code that sees every
//! relayed message and decides what becomes of it. Without either, a relay does nothing for them.

mod faults;
mod injector;
mod spec;

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use ssm_proto::Header;

pub use faults::FaultGuard;
pub use spec::{Fault, FaultError, help};

pub(crate) use faults::Faults;
pub(crate) use injector::{Broken, Fate, Injector};
pub(crate) use spec::{Cell, Destination, Dial, End, How, Part, Refusal, TextBytes};

/// Which way a message travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Input: from the client to the agent.
    ClientToAgent,
    /// Output: from the agent to the client.
    AgentToClient,
}

/// What becomes of one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on, unchanged and in order.
    Deliver,
    /// It is lost.
    Drop,
    /// It arrives twice in a row.
    Duplicate,
    /// It arrives this much later; what comes behind it overtakes it.
    Delay(Duration),
    /// One bit of its last byte is flipped, which the digest of a payload shows.
    Corrupt,
    /// It is lost and the sender's socket is cut without a closing frame, as when a network goes away.
    Cut,
    /// It is delivered and the sender is told to pause. Nothing tells it to go on but the peer's next message.
    Pause,
    /// It is delivered and the client's socket is closed with 1000 `Bye`, as the service does about hourly.
    Bye,
}

type Rule = Box<dyn FnMut(Direction, &Header) -> Verdict + Send>;

/// The rules in force, shared by all sessions of a loopback.
#[derive(Default)]
pub(crate) struct Rules {
    rules: Mutex<Vec<(u64, Rule)>>,
    /// Length of `rules`, so that a relay without rules takes no lock.
    count: AtomicUsize,
    next: AtomicUsize,
}

impl fmt::Debug for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rules").field("count", &self.count).finish_non_exhaustive()
    }
}

impl Rules {
    /// Adds a rule, which holds until the guard is dropped.
    pub(crate) fn add(
        self: &Arc<Self>,
        rule: impl FnMut(Direction, &Header) -> Verdict + Send + 'static,
    ) -> RuleGuard {
        let id = self.next.fetch_add(1, Ordering::Relaxed) as u64;
        self.change(|rules| rules.push((id, Box::new(rule))));
        RuleGuard { rules: Arc::downgrade(self), id }
    }

    /// The verdict on a message: the first one that is not [`Verdict::Deliver`], in the order the rules were added.
    pub(crate) fn judge(&self, direction: Direction, header: &Header) -> Verdict {
        if self.count.load(Ordering::Acquire) == 0 {
            return Verdict::Deliver;
        }
        let mut rules = self.rules.lock().unwrap_or_else(PoisonError::into_inner);
        let mut verdicts = rules.iter_mut().map(|(_, rule)| rule(direction, header));
        verdicts.find(|verdict| *verdict != Verdict::Deliver).unwrap_or(Verdict::Deliver)
    }

    fn change(&self, change: impl FnOnce(&mut Vec<(u64, Rule)>)) {
        let mut rules = self.rules.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut rules);
        self.count.store(rules.len(), Ordering::Release);
    }
}

/// Keeps a rule in force; dropping it takes the rule away.
#[must_use = "the rule is taken away when its guard is dropped"]
#[derive(Debug)]
pub struct RuleGuard {
    rules: Weak<Rules>,
    id: u64,
}

impl Drop for RuleGuard {
    fn drop(&mut self) {
        if let Some(rules) = self.rules.upgrade() {
            rules.change(|rules| rules.retain(|(id, _)| *id != self.id));
        }
    }
}

/// How often a [`random`] rule does what, in messages out of a thousand.
#[derive(Debug, Clone, Copy, Default)]
pub struct Odds {
    /// [`Verdict::Drop`].
    pub drop: u32,
    /// [`Verdict::Duplicate`].
    pub duplicate: u32,
    /// [`Verdict::Corrupt`].
    pub corrupt: u32,
    /// [`Verdict::Delay`] by up to [`max_delay`](Self::max_delay).
    pub delay: u32,
    /// Longest delay.
    pub max_delay: Duration,
}

/// A rule that does harm by chance. The same seed gives the same verdicts for the same sequence of messages.
pub fn random(seed: u64, odds: Odds) -> impl FnMut(Direction, &Header) -> Verdict + Send + 'static {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    move |_, _| {
        let mut roll = rng.next_u32() % 1000;
        let part = rng.next_u32() % 1000;
        let outcomes = [
            (odds.drop, Verdict::Drop),
            (odds.duplicate, Verdict::Duplicate),
            (odds.corrupt, Verdict::Corrupt),
            (odds.delay, Verdict::Delay(odds.max_delay * part / 1000)),
        ];
        for (weight, verdict) in outcomes {
            if roll < weight {
                return verdict;
            }
            roll -= weight;
        }
        Verdict::Deliver
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ssm_proto::{MessageId, MessageType};

    #[test]
    fn a_rule_ends_with_its_guard() {
        let rules = Arc::new(Rules::default());
        let guard = rules.add(|_, _| Verdict::Drop);
        assert_eq!(rules.judge(Direction::ClientToAgent, &header()), Verdict::Drop);
        drop(guard);
        assert_eq!(rules.judge(Direction::ClientToAgent, &header()), Verdict::Deliver);
    }

    #[test]
    fn the_first_rule_with_an_opinion_decides() {
        let rules = Arc::new(Rules::default());
        let _indifferent = rules.add(|_, _| Verdict::Deliver);
        let _strict = rules.add(|direction, _| match direction {
            Direction::ClientToAgent => Verdict::Cut,
            Direction::AgentToClient => Verdict::Deliver,
        });
        let _late = rules.add(|_, _| Verdict::Drop);
        assert_eq!(rules.judge(Direction::ClientToAgent, &header()), Verdict::Cut);
        assert_eq!(rules.judge(Direction::AgentToClient, &header()), Verdict::Drop);
    }

    #[test]
    fn the_same_seed_does_the_same_harm() {
        let odds =
            Odds { drop: 100, duplicate: 100, delay: 100, max_delay: Duration::from_millis(5), corrupt: 0 };
        let run = |seed| {
            let mut rule = random(seed, odds);
            (0..1000).map(|_| rule(Direction::AgentToClient, &header())).collect::<Vec<_>>()
        };
        assert_eq!(run(7), run(7));
        assert_ne!(run(7), run(8));
        let lost = run(7).iter().filter(|verdict| **verdict == Verdict::Drop).count();
        assert!((50..200).contains(&lost), "{lost}");
    }

    fn header() -> Header {
        Header::control(MessageType::Acknowledge, MessageId::from_random([1; 16]), 1)
    }
}
