//! The faults of one session: what becomes of each message, and which sockets are lost when.

use std::sync::Arc;
use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::Rng;
use ssm_proto::{Header, PayloadType};
use tokio::time::Instant;

use super::Direction;
use super::faults::{Faults, generator, strikes};
use super::spec::{End, Fault, How, Kind, Part, Share, TextBytes, When};

/// Draws what happens to the messages of one session.
#[derive(Debug)]
pub(crate) struct Injector {
    faults: Arc<Faults>,
    session: u64,
    generation: u64,
    active: Vec<Active>,
}

/// A fault as it is in one session.
#[derive(Debug)]
struct Active {
    number: u64,
    fault: Arc<Fault>,
    /// One for each direction, so that what happens one way does not depend on the timing of the other.
    rng: [ChaCha8Rng; 2],
    messages: [u64; 2],
    done: u32,
    /// The next time, of what happens by the clock.
    due: Option<Instant>,
    /// When the next message may be relayed, where the rate is bounded.
    free_at: [Option<Instant>; 2],
}

/// What becomes of a message.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Fate {
    pub(crate) lost: bool,
    /// Copies beside the message itself.
    pub(crate) copies: u32,
    pub(crate) delay: Duration,
    /// The bit to flip, modulo those of the part.
    pub(crate) flip: Option<(Part, u32)>,
    pub(crate) unknown_action: bool,
    pub(crate) text: Option<TextBytes>,
    /// A frame of so many bytes goes before it.
    pub(crate) oversize: Option<usize>,
    pub(crate) pause: bool,
    /// It was longer than the gateway takes.
    pub(crate) too_long: bool,
    pub(crate) broken: Option<Broken>,
}

/// A socket that is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Broken {
    Socket(How, End),
    /// Both, and the session with them.
    Session,
}

impl Injector {
    pub(crate) fn new(faults: Arc<Faults>) -> Self {
        let session = faults.session();
        Self { faults, session, generation: 0, active: Vec::new() }
    }

    /// Takes in what was added and taken away. To be called once a turn.
    pub(crate) fn refresh(&mut self, now: Instant) {
        if self.faults.generation() == self.generation {
            return;
        }
        let (generation, entries, seed) = self.faults.snapshot();
        self.generation = generation;
        let mut old = std::mem::take(&mut self.active);
        for entry in entries {
            if !entry.fault.kind.is_of_relay() {
                continue;
            }
            if let Some(at) = old.iter().position(|active| active.number == entry.number) {
                self.active.push(old.swap_remove(at));
                continue;
            }
            let seed = entry.fault.scope.seed.unwrap_or(seed);
            let rng = [0, 1].map(|way| generator(seed, entry.number, self.session << 1 | way));
            let mut active = Active {
                number: entry.number,
                fault: entry.fault,
                rng,
                messages: [0; 2],
                done: 0,
                due: None,
                free_at: [None; 2],
            };
            active.schedule(now);
            self.active.push(active);
        }
    }

    /// Whether there is no fault that a relay has to do with.
    pub(crate) fn is_idle(&self) -> bool {
        self.active.is_empty()
    }

    /// The fate of a message. All faults have their say, in the order they were added.
    pub(crate) fn judge(&mut self, direction: Direction, header: &Header, len: usize, now: Instant) -> Fate {
        let mut fate = Fate::default();
        for active in &mut self.active {
            active.judge(&mut fate, direction, header, len, now);
        }
        fate
    }

    /// What the clock breaks now, of the sockets that are there. One that is not there is not broken, and does not count.
    pub(crate) fn poll_due(&mut self, now: Instant, is_there: impl Fn(End) -> bool) -> Option<Broken> {
        self.active.iter_mut().find_map(|active| active.poll_due(now, &is_there))
    }

    /// When [`poll_due`](Self::poll_due) or a bounded rate wants a turn.
    pub(crate) fn deadline(&self, now: Instant) -> Option<Instant> {
        let free = |active: &Active| active.free_at.into_iter().flatten().filter(|at| *at > now).min();
        self.active.iter().flat_map(|active| [active.due, free(active)]).flatten().min()
    }

    /// Whether a direction has to wait for its rate.
    pub(crate) fn is_full(&self, direction: Direction, now: Instant) -> bool {
        self.active.iter().any(|active| active.free_at[direction.index()].is_some_and(|at| at > now))
    }

    /// Stream messages a client may send in a second.
    pub(crate) fn rate(&self) -> Option<u32> {
        self.find(|kind| if let Kind::Rate { per_second } = kind { Some(*per_second) } else { None })
    }

    /// Length of the fragments that messages come in.
    pub(crate) fn fragment(&self, direction: Direction) -> Option<usize> {
        let fragments = self
            .active
            .iter()
            .filter(|active| active.fault.scope.direction.is_none_or(|only| only == direction));
        fragments
            .map(|active| &active.fault.kind)
            .find_map(|kind| if let Kind::Fragment(len) = kind { Some(*len) } else { None })
    }

    /// Whether the first thing a client gets is a start_publication.
    pub(crate) fn starts_early(&self) -> bool {
        self.find(|kind| matches!(kind, Kind::StartEarly).then_some(())).is_some()
    }

    fn find<T>(&self, find: impl Fn(&Kind) -> Option<T>) -> Option<T> {
        self.active.iter().find_map(|active| find(&active.fault.kind))
    }
}

impl Active {
    fn judge(&mut self, fate: &mut Fate, direction: Direction, header: &Header, len: usize, now: Instant) {
        let way = direction.index();
        let fault = Arc::clone(&self.fault);
        if !fault.scope.covers(direction, header) {
            return;
        }
        self.messages[way] += 1;
        match &fault.kind {
            Kind::Loss(share) => fate.lost |= self.strikes(way, *share),
            Kind::Duplicate(share) => fate.copies += u32::from(self.strikes(way, *share)),
            Kind::Reorder { share, by } => {
                let part = self.rng[way].next_u32() % 1000;
                if self.strikes(way, *share) {
                    fate.delay += *by * (part + 1) / 1000;
                }
            }
            Kind::Delay { time, jitter } => {
                let part = self.rng[way].next_u32() % 1000;
                if self.strikes(way, Share::ALWAYS) {
                    fate.delay += *time + *jitter * part / 1000;
                }
            }
            Kind::Bandwidth { per_second } => {
                let time = Duration::from_secs(1).mul_f64(len as f64 / *per_second as f64);
                // What was not used in the last moment may be caught up with: timers are late by a millisecond or two.
                let earliest = now.checked_sub(CATCH_UP).unwrap_or(now);
                self.free_at[way] = Some(self.free_at[way].map_or(earliest, |at| at.max(earliest)) + time);
            }
            Kind::Corrupt { share, part } => {
                let bit = self.rng[way].next_u32();
                // The digest covers what is numbered; an acknowledgement that is damaged acknowledges something else.
                if header.message_type.is_stream() && self.strikes(way, *share) {
                    fate.flip = Some((*part, bit));
                }
            }
            Kind::Pause(when) => fate.pause |= self.comes(way, *when, now),
            Kind::Break { when, how, end } if self.comes(way, *when, now) => {
                fate.broken.get_or_insert(Broken::Socket(*how, *end));
            }
            Kind::Restart(when) if self.comes(way, *when, now) => fate.broken = Some(Broken::Session),
            Kind::Text { when, bytes } if self.comes(way, *when, now) => fate.text = Some(*bytes),
            Kind::Oversize { when, len } if self.comes(way, *when, now) => fate.oversize = Some(*len),
            Kind::FrameLimit(limit) if direction == Direction::ClientToAgent && len > *limit => {
                fate.too_long |= self.strikes(way, Share::ALWAYS);
            }
            Kind::HandshakeUnknown => {
                fate.unknown_action |= header.payload_type == Some(PayloadType::HandshakeRequest);
            }
            _ => {}
        }
    }

    /// Whether the dice say so and the fault has not struck often enough.
    fn strikes(&mut self, way: usize, share: Share) -> bool {
        let struck = strikes(&mut self.rng[way], share)
            && self.fault.scope.times.is_none_or(|times| self.done < times);
        self.done += u32::from(struck);
        struck
    }

    /// Whether it happens with this message.
    fn comes(&mut self, way: usize, when: When, now: Instant) -> bool {
        match when {
            When::Messages(every) => {
                self.messages[way].is_multiple_of(every) && self.strikes(way, Share::ALWAYS)
            }
            When::Chance(share) => self.strikes(way, share),
            When::Period { .. } => self.due.is_some_and(|due| due <= now) && self.expire(now),
        }
    }

    /// Whether it happens by the clock, without a message that it could happen to.
    fn poll_due(&mut self, now: Instant, is_there: impl Fn(End) -> bool) -> Option<Broken> {
        let broken = match &self.fault.kind {
            Kind::Break { how, end, .. } => Broken::Socket(*how, *end),
            Kind::Restart(_) => Broken::Session,
            _ => return None,
        };
        if self.due.is_none_or(|due| due > now) {
            return None;
        }
        if let Broken::Socket(_, end) = broken
            && !is_there(end)
        {
            self.schedule(now);
            return None;
        }
        self.expire(now).then_some(broken)
    }

    fn expire(&mut self, now: Instant) -> bool {
        let struck = self.strikes(0, Share::ALWAYS);
        self.schedule(now);
        struck
    }

    fn schedule(&mut self, now: Instant) {
        self.due = match self.fault.kind {
            Kind::Break { when, .. }
            | Kind::Restart(when)
            | Kind::Pause(when)
            | Kind::Text { when, .. }
            | Kind::Oversize { when, .. } => match when {
                When::Period { time, jitter }
                    if self.fault.scope.times.is_none_or(|times| self.done < times) =>
                {
                    let part = self.rng[0].next_u32() % 1000;
                    Some(now + time + jitter * part / 1000)
                }
                _ => None,
            },
            _ => None,
        };
    }
}

/// How far a direction of bounded rate may be behind.
const CATCH_UP: Duration = Duration::from_millis(5);

impl Direction {
    fn index(self) -> usize {
        match self {
            Self::ClientToAgent => 0,
            Self::AgentToClient => 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ssm_proto::{MessageId, MessageType};

    fn injector(specs: &[&str]) -> Injector {
        let faults = Arc::new(Faults::default());
        for spec in specs {
            faults.add_for_good(spec.parse().unwrap());
        }
        let mut injector = Injector::new(faults);
        injector.refresh(Instant::now());
        injector
    }

    fn data(sequence: i64) -> Header {
        let id = MessageId::from_random([1; 16]);
        Header::stream(MessageType::OutputStreamData, PayloadType::Output, sequence, id, 1)
    }

    fn acknowledgement() -> Header {
        Header::control(MessageType::Acknowledge, MessageId::from_random([1; 16]), 1)
    }

    fn fates(injector: &mut Injector, direction: Direction, count: i64) -> Vec<Fate> {
        (0..count).map(|n| injector.judge(direction, &data(n), 100, Instant::now())).collect()
    }

    #[tokio::test]
    async fn the_same_seed_makes_the_same_faults_of_the_same_messages() {
        let run = |seed: u64| {
            let specs =
                ["loss=5%", "reorder=5%", "duplicate=5%", "corrupt=5%", "cut=1%", &format!("seed={seed}")];
            fates(&mut injector(&specs), Direction::AgentToClient, 2000)
        };
        assert_eq!(run(7), run(7));
        assert_ne!(run(7), run(8));
        let lost = run(7).iter().filter(|fate| fate.lost).count();
        assert!((60..140).contains(&lost), "{lost} of 2,000");
        let broken = run(7).iter().filter(|fate| fate.broken.is_some()).count();
        assert!((5..40).contains(&broken), "{broken} of 2,000");
    }

    #[tokio::test]
    async fn one_direction_does_not_depend_on_the_other() {
        let mut alone = injector(&["loss=20%"]);
        let mut both = injector(&["loss=20%"]);
        let expected = fates(&mut alone, Direction::AgentToClient, 200);
        let mixed: Vec<Fate> = (0..200)
            .map(|n| {
                both.judge(Direction::ClientToAgent, &data(n), 100, Instant::now());
                both.judge(Direction::AgentToClient, &data(n), 100, Instant::now())
            })
            .collect();
        assert_eq!(mixed, expected);
    }

    #[tokio::test]
    async fn sessions_have_faults_of_their_own() {
        let faults = Arc::new(Faults::default());
        faults.add_for_good("loss=20%".parse().unwrap());
        let run = || {
            let mut injector = Injector::new(faults.clone());
            injector.refresh(Instant::now());
            fates(&mut injector, Direction::AgentToClient, 200)
        };
        assert_ne!(run(), run());
    }

    #[tokio::test]
    async fn a_fault_keeps_to_its_direction_class_and_times() {
        let mut injector = injector(&["loss=100%,direction=down,class=ack,times=3"]);
        let mut lost = |direction, header: &Header| injector.judge(direction, header, 1, Instant::now()).lost;
        assert!(!lost(Direction::ClientToAgent, &acknowledgement()));
        assert!(!lost(Direction::AgentToClient, &data(0)));
        let many: Vec<bool> = (0..5).map(|_| lost(Direction::AgentToClient, &acknowledgement())).collect();
        assert_eq!(many, [true, true, true, false, false]);
    }

    #[tokio::test]
    async fn what_comes_by_the_clock_comes_each_period() {
        let mut injector = injector(&["close=1001,every=5s", "restart=1m,times=1"]);
        let (mut seen, mut now) = (Vec::new(), Instant::now());
        for _ in 0..14 {
            now = injector.deadline(now).expect("something is due");
            seen.extend(injector.poll_due(now, |_| true));
        }
        let close = Broken::Socket(How::Close(1001), End::Client);
        assert_eq!(seen.iter().filter(|broken| **broken == close).count(), 13);
        assert_eq!(seen.iter().filter(|broken| **broken == Broken::Session).count(), 1);
    }

    #[tokio::test]
    async fn what_finds_no_socket_is_not_counted() {
        let mut injector = injector(&["cut=1s,end=agent,times=2"]);
        let mut now = Instant::now();
        for there in [false, true, false, false, true] {
            now = injector.deadline(now).expect("it has not struck often enough");
            assert_eq!(injector.poll_due(now, |end| there && end == End::Agent).is_some(), there);
        }
        assert_eq!(injector.deadline(now), None);
    }

    #[tokio::test]
    async fn a_relay_is_idle_when_all_faults_are_those_of_others() {
        let others = [
            "handshake=again",
            "header=112",
            "unready=1s",
            "resume=403",
            "upgrade=503",
            "token=used",
            "cell=rotate",
            "dial=stuck",
            "destination=stuck",
            "seed=7",
        ];
        assert!(injector(&others).is_idle());
        for fault in ["loss=5%", "pause=1", "restart=1m", "rate=1/s", "start=early", "handshake=unknown"] {
            assert!(!injector(&[fault]).is_idle(), "{fault}");
        }
        assert_eq!(injector(&["fragment=100"]).fragment(Direction::AgentToClient), Some(100));
    }

    #[tokio::test]
    async fn a_bounded_rate_is_kept_to() {
        let mut injector = injector(&["bandwidth=100KiB/s,direction=down"]);
        let start = Instant::now();
        let mut now = start;
        for _ in 0..100 {
            while injector.is_full(Direction::AgentToClient, now) {
                now = injector.deadline(now).expect("it is free again");
            }
            injector.judge(Direction::AgentToClient, &data(0), 10 * 1024, now);
        }
        assert!(!injector.is_full(Direction::ClientToAgent, now));
        let took = (now - start).as_secs_f64();
        assert!((9.8..10.2).contains(&took), "1,000 KiB in {took} s");
    }
}
