//! A random story of a session, made from a seed.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use ssm_channel::{CloseReason, Config, Handshake, Input, Offer, Pacing, Role};
use ssm_proto::{MessageType, PayloadType, Strictness};

use crate::link::Conditions;
use crate::pair::{Pair, encrypted, port, shell};

/// A session, what its applications send, and what happens to it.
pub(crate) struct Story {
    rng: ChaCha8Rng,
    pair: Pair,
    work: [VecDeque<(PayloadType, Vec<u8>)>; 2],
    /// When the applications send next: they do not always have something.
    work_at: [Instant; 2],
    think: Duration,
    trouble: VecDeque<(Instant, Trouble)>,
    /// Nothing but trouble keeps data from arriving before this.
    troubled_until: Instant,
    seen: Seen,
}

/// Something that happens to a session.
#[derive(Debug, Clone, Copy)]
enum Trouble {
    /// The agent comes later than the client.
    Arrival,
    Cut(Role),
    /// A connection that passes nothing, and a driver that does not notice.
    Deaf(Role, Duration),
    Unreachable(Role, Duration),
    Pause(Role),
    Start(Role),
    NotReady,
    Ready,
}

impl Trouble {
    fn lasts(self) -> bool {
        !matches!(self, Self::Arrival | Self::Cut(_) | Self::Pause(_) | Self::Start(_))
    }
}

/// How often what happened, in all stories.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Seen {
    messages: u64,
    retransmissions: u64,
    duplicates: u64,
    reordered: u64,
    refused: u64,
    damaged: u64,
    resumes: u64,
    pauses: u64,
    assumed: u64,
    late_handshakes: u64,
}

/// The longest that nothing may arrive beyond trouble itself: silence has to be noticed on both sides (20 s), the backoff
/// of a redial (8 s) passes, and a message may be lost a few times after that, a second apart.
const STALL: Duration = Duration::from_secs(90);

impl Story {
    pub(crate) fn new(seed: u64) -> Self {
        let mut dice = Dice(ChaCha8Rng::seed_from_u64(seed));
        let conditions = dice.conditions();
        let payload_len = dice.one_of(&[64, 1024, 1024, 8192]);
        let offer = dice.offer();
        let client = Config {
            payload_len,
            pacing: dice.one_of(&[None, None, Some(Pacing { per_second: 900, burst: 100 })]),
            in_flight_max: dice.one_of(&[8, 200, 4096]),
            assume_ready: (offer.session_type != "Port").then_some(Duration::from_secs(3)),
            handshake_timeout: Duration::from_secs(600),
            keep_alive: Duration::from_secs(5),
            silence: Duration::from_secs(20),
            ..Config::client()
        };
        let agent = Config {
            reorder_max: dice.one_of(&[4, 64, 8192]),
            payload_len: dice.one_of(&[64, 1024, 1027]),
            strictness: if conditions.damage > 0 { Strictness::Strict } else { Strictness::Unchecked },
            in_flight_max: client.in_flight_max,
            handshake_timeout: client.handshake_timeout,
            keep_alive: client.keep_alive,
            silence: client.silence,
            ..Config::agent("i-0", offer)
        };
        let work = [
            dice.work(&[PayloadType::Output, PayloadType::Output, PayloadType::Size], payload_len),
            dice.work(&[PayloadType::Output, PayloadType::StdErr, PayloadType::ExitCode], agent.payload_len),
        ];
        let mut pair = Pair::new(seed, client, agent, conditions);
        pair.records = false;
        let start = pair.start;
        let trouble = dice.trouble(start);
        let think = dice.one_of(&[Duration::ZERO, Duration::ZERO, Duration::from_millis(70)]);
        Self {
            rng: dice.0,
            pair,
            work,
            work_at: [start; 2],
            think,
            trouble: trouble.into(),
            troubled_until: start,
            seen: Seen::default(),
        }
    }

    /// Plays it to the end.
    ///
    /// # Panics
    ///
    /// When anything is not as it must be.
    pub(crate) fn run(mut self) -> Seen {
        self.pair.open(Role::Client);
        let mut progress = (0, self.pair.now);
        while !self.is_over() {
            self.send();
            let next = self.next_of_mine();
            self.pair.step(next);
            self.make_trouble();
            self.assert_bounds();
            let delivered = self.pair.client.inbound.delivered + self.pair.agent.inbound.delivered;
            if delivered > progress.0 || !self.waits() {
                progress = (delivered, self.pair.now);
            }
            let since = progress.1.max(self.troubled_until);
            let stalled = self.pair.now.saturating_duration_since(since);
            assert!(stalled < STALL, "nothing arrived for {stalled:?}: {}", self.describe());
        }
        self.end()
    }

    fn is_over(&self) -> bool {
        let peers = [&self.pair.client, &self.pair.agent];
        self.trouble.is_empty() && !self.waits() && peers.iter().all(|peer| !peer.ready.is_empty())
    }

    /// Whether something is to arrive, or to be acknowledged.
    fn waits(&self) -> bool {
        let peers = [&self.pair.client, &self.pair.agent];
        self.work.iter().any(|work| !work.is_empty())
            || peers.iter().any(|peer| !peer.inbound.is_complete() || !peer.channel.is_drained())
    }

    fn send(&mut self) {
        for (index, role) in [Role::Client, Role::Agent].into_iter().enumerate() {
            while self.work_at[index] <= self.pair.now && self.pair.peer(role).channel.can_send() {
                let Some((kind, payload)) = self.work[index].pop_front() else { break };
                assert!(self.pair.send(role, kind, &payload), "can_send and cannot");
                if !self.think.is_zero() && self.rng.next_u32().is_multiple_of(4) {
                    self.work_at[index] = self.pair.now + self.think;
                }
            }
        }
    }

    /// When an application or trouble wants to go on.
    fn next_of_mine(&self) -> Instant {
        let work = self.work_at.iter().copied().filter(|at| *at > self.pair.now);
        let trouble = self.trouble.front().map(|(at, _)| *at);
        work.chain(trouble).min().unwrap_or(self.pair.now + STALL)
    }

    fn make_trouble(&mut self) {
        while let Some((at, trouble)) = self.trouble.front().copied()
            && at <= self.pair.now
        {
            let now = self.pair.now;
            // An agent waits only so long for a handshake, and whoever is away then has no session.
            if trouble.lasts() && self.pair.agent.ready.is_empty() {
                let later = self.trouble.iter_mut().filter(|(_, trouble)| trouble.lasts());
                later.for_each(|(at, _)| *at += Duration::from_millis(500));
                self.trouble.make_contiguous().sort_by_key(|(at, _)| *at);
                continue;
            }
            self.trouble.pop_front();
            let lasts = match trouble {
                Trouble::Arrival => {
                    self.pair.open(Role::Agent);
                    Duration::ZERO
                }
                Trouble::Cut(role) => {
                    self.pair.cut(role);
                    Duration::ZERO
                }
                Trouble::Deaf(role, lasts) => {
                    self.pair.peer(role).deaf_until = Some(now + lasts);
                    lasts
                }
                Trouble::Unreachable(role, lasts) => {
                    self.pair.peer(role).unreachable_until = Some(now + lasts);
                    self.pair.cut(role);
                    lasts
                }
                Trouble::Pause(role) => {
                    self.pair.service(role, MessageType::PausePublication, b"pause_publication");
                    Duration::ZERO
                }
                Trouble::Start(role) => {
                    // What the gateway says is late on a connection that passes nothing, not lost.
                    self.pair.peer(role).deaf_until = None;
                    self.pair.service(role, MessageType::StartPublication, b"start_publication");
                    Duration::ZERO
                }
                Trouble::NotReady => {
                    self.pair.agent.channel.set_input(Input::Refused);
                    Duration::from_secs(10)
                }
                Trouble::Ready => {
                    self.pair.agent.channel.set_input(Input::Accepted);
                    Duration::ZERO
                }
            };
            self.troubled_until = self.troubled_until.max(now + lasts);
        }
    }

    /// What each side holds is bounded, and neither gave up.
    fn assert_bounds(&self) {
        for peer in [&self.pair.client, &self.pair.agent] {
            assert!(peer.closed.is_none(), "{:?} closed: {:?}", peer.role, peer.closed);
            let (stats, config) = (peer.channel.stats(), peer.channel.config());
            let most = config.window_max + 2 * config.payload_max + 8 * 1024;
            assert!(stats.in_flight <= most, "{:?} holds {} bytes", peer.role, stats.in_flight);
            assert!(stats.parked <= config.reorder_max, "{:?} parks {}", peer.role, stats.parked);
        }
    }

    fn end(mut self) -> Seen {
        for role in [Role::Client, Role::Agent] {
            let stats = self.pair.peer(role).channel.stats();
            self.seen.messages += stats.messages_sent;
            self.seen.retransmissions += stats.retransmissions;
            self.seen.duplicates += stats.duplicates_received;
            self.seen.reordered += stats.out_of_order_received;
            self.seen.refused += stats.refused;
            self.seen.damaged += stats.undecodable_frames;
            self.seen.resumes += stats.resumes;
            self.seen.pauses += stats.pauses;
        }
        let ready = &self.pair.client.ready;
        self.seen.assumed += u64::from(ready[0].evidence == ssm_channel::Evidence::Assumed);
        self.seen.late_handshakes += ready.len() as u64 - 1;
        assert_eq!(self.pair.agent.ready.len(), 1);
        let now = self.pair.now;
        self.pair.client.channel.terminate(now);
        self.pair.drive(Role::Client);
        self.pair.run_for(Duration::from_secs(3));
        let reason = self.pair.client.closed.take().map(|(_, reason)| reason);
        assert_eq!(reason, Some(CloseReason::Terminated));
        assert_eq!(self.pair.client.channel.poll_timeout(), None);
        self.seen
    }

    fn describe(&self) -> String {
        let (client, agent) = (&self.pair.client, &self.pair.agent);
        format!(
            "client {:?}\nagent {:?}\nmissing {} at the agent, {} at the client, {} and {} not sent",
            client.channel.stats(),
            agent.channel.stats(),
            agent.inbound.missing(),
            client.inbound.missing(),
            self.work[0].len(),
            self.work[1].len(),
        )
    }
}

impl Seen {
    pub(crate) fn add(&mut self, other: Self) {
        self.messages += other.messages;
        self.retransmissions += other.retransmissions;
        self.duplicates += other.duplicates;
        self.reordered += other.reordered;
        self.refused += other.refused;
        self.damaged += other.damaged;
        self.resumes += other.resumes;
        self.pauses += other.pauses;
        self.assumed += other.assumed;
        self.late_handshakes += other.late_handshakes;
    }

    /// Stories in which nothing goes wrong prove nothing.
    pub(crate) fn assert_everything_happened(&self) {
        let Self { retransmissions, duplicates, reordered, refused, .. } = *self;
        let Self { damaged, resumes, pauses, assumed, late_handshakes, .. } = *self;
        let counts = [
            retransmissions,
            duplicates,
            reordered,
            refused,
            damaged,
            resumes,
            pauses,
            assumed,
            late_handshakes,
        ];
        assert!(counts.iter().all(|count| *count > 10), "{self:?}");
    }
}

/// Choices made from a seed.
pub(crate) struct Dice(pub(crate) ChaCha8Rng);

impl Dice {
    pub(crate) fn below(&mut self, bound: u32) -> u32 {
        self.0.next_u32() % bound
    }

    pub(crate) fn one_of<T: Clone>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u32) as usize].clone()
    }

    pub(crate) fn ms(&mut self, below: u32) -> Duration {
        Duration::from_millis(self.below(below).into())
    }

    pub(crate) fn side(&mut self) -> Role {
        self.one_of(&[Role::Client, Role::Agent])
    }

    fn conditions(&mut self) -> Conditions {
        Conditions {
            delay: self.one_of(&[0, 1, 20, 100, 400].map(Duration::from_millis)),
            jitter: self.one_of(&[0, 0, 30].map(Duration::from_millis)),
            loss: self.one_of(&[0, 0, 10, 100, 300]),
            duplicates: self.one_of(&[0, 0, 50, 500]),
            reorder: self.one_of(&[0, 0, 50, 500]),
            damage: self.one_of(&[0, 0, 0, 50]),
            bytes_per_ms: self.one_of(&[None, None, Some(2000), Some(50)]),
            bottleneck: None,
            frame_max: None,
        }
    }

    fn offer(&mut self) -> Offer {
        let command = Offer { session_type: "NonInteractiveCommands".into(), ..shell(Handshake::Required) };
        self.one_of(&[shell(Handshake::Required), shell(Handshake::Skipped), port(), command, encrypted()])
    }

    fn work(&mut self, kinds: &[PayloadType], payload_len: usize) -> VecDeque<(PayloadType, Vec<u8>)> {
        let count = self.one_of(&[0, 1, 30, 30, 150]);
        let mut work = VecDeque::new();
        for _ in 0..count {
            let len = match self.below(3) {
                0 => payload_len,
                _ => 1 + self.below(payload_len as u32) as usize,
            };
            let mut payload = vec![0; len];
            self.0.fill_bytes(&mut payload);
            work.push_back((self.one_of(kinds), payload));
        }
        work
    }

    fn trouble(&mut self, start: Instant) -> Vec<(Instant, Trouble)> {
        let late = self.one_of(&[0, 0, 0, 0, 0, 0, 0, 8_000]);
        let mut trouble = vec![(start + self.ms(late + 1), Trouble::Arrival)];
        for _ in 0..self.one_of(&[0, 1, 2, 5]) {
            let at = start + self.ms(6_000);
            let side = self.side();
            match self.below(6) {
                0 | 1 => trouble.push((at, Trouble::Cut(side))),
                2 => trouble.push((at, Trouble::Deaf(side, self.ms(40_000)))),
                3 => trouble.push((at, Trouble::Unreachable(side, self.ms(20_000)))),
                4 => {
                    trouble.push((at, Trouble::Pause(side)));
                    // A paused agent that is never told to go on waits for the client to say something.
                    if side == Role::Agent || self.below(2) == 0 {
                        trouble.push((at + self.ms(5_000), Trouble::Start(side)));
                    }
                }
                _ => {
                    trouble.push((at, Trouble::NotReady));
                    trouble.push((at + self.ms(10_000), Trouble::Ready));
                }
            }
        }
        trouble.sort_by_key(|(at, _)| *at);
        trouble
    }
}
