//! What a seed stands for: a session, its traffic, and everything that goes wrong with it.

use std::fmt;
use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use ssm_channel::{Config, Handshake, Offer, Pacing, Role};
use ssm_proto::{RawValue, Strictness};

use crate::link::Conditions;
use crate::pair::{encrypted, port, shell};
use crate::story::Dice;

/// A whole session. Printed when it fails.
#[derive(Clone)]
pub(crate) struct Plan {
    pub(crate) kind: Kind,
    pub(crate) client_version: &'static str,
    pub(crate) agent_version: &'static str,
    pub(crate) agent: Profile,
    pub(crate) conditions: Conditions,
    /// Payload of a data message: what a client begins with, what it tries to reach, what the agent sends.
    pub(crate) payload: (usize, usize, usize),
    pub(crate) pacing: Option<Pacing>,
    pub(crate) in_flight_max: usize,
    pub(crate) reorder_max: usize,
    pub(crate) window_max: usize,
    /// Bytes of the multiplexer at which a side stops reading the session.
    pub(crate) receive_limit: usize,
    /// Local connections, one after the other in time. A terminal has one: what is typed, and what is shown.
    pub(crate) connections: Vec<Connection>,
    pub(crate) faults: Vec<(Duration, Fault)>,
    pub(crate) ending: Ending,
}

/// Kinds of session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Mux,
    Basic,
    Stream,
    Shell(Handshake),
    Encrypted,
    Command,
}

/// How an agent sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Profile {
    Fast,
    /// As AWS's: 1,024 bytes, then a pause.
    Aws,
}

/// A local connection and the destination it is for.
#[derive(Debug, Clone)]
pub(crate) struct Connection {
    /// After the start, or after the one before in sessions with one at a time.
    pub(crate) opens: Duration,
    pub(crate) up: u64,
    pub(crate) down: u64,
    pub(crate) course: Course,
    pub(crate) dial: Duration,
    /// How long the program here takes nothing, from its first bytes on.
    pub(crate) slow_program: Duration,
    /// The same for the destination.
    pub(crate) slow_destination: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Course {
    /// The destination answers when it has everything, and ends the connection.
    Reply,
    /// Both send at once; the destination ends it when both are done.
    Talk,
    /// The program sends and is gone.
    HangUp,
    /// The program is gone in the middle of what it gets.
    Abort,
    /// Nothing listens at the destination.
    Refused,
}

/// Something that goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The agent comes, late or not.
    Arrival,
    /// The gateway closes the WebSocket properly, as every hour (1000, 1001).
    Close(Role),
    /// What it had sent before has arrived.
    Closed(Role),
    /// A reset.
    Reset(Role),
    /// A connection that passes nothing, and nobody is told: for so long, or until another one takes its place.
    HalfOpen(Role, Option<Duration>),
    /// No connection can be made.
    Unreachable(Role, Duration),
    /// Both sides lose the gateway and find another one, so far away.
    Rotation(Duration),
    /// The gateway asks for silence, and takes it back after so long or never.
    Pause(Role, Option<Duration>),
    /// It takes it back.
    Start(Role),
    /// The agent leaves input unacknowledged.
    NotReady(Duration),
    /// A program that does not read its WebSocket.
    StuckReader(Role, Duration),
    /// A WebSocket that takes nothing.
    StuckSocket(Role, Duration),
    /// The agent begins its handshake again.
    RepeatedHandshake,
    /// The wall clock jumps.
    Suspend(Role, Duration),
    /// A message nobody knows what to do with.
    Stray(Role, Stray),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stray {
    UnknownType,
    AgentSessionState,
    AcknowledgementOfTheFuture,
    NoMessage,
}

/// How the session comes to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// When all is done the client ends it.
    Terminate,
    /// When all is done the agent ends it: the shell was left, the destination hung up.
    AgentEnds,
    /// The first destination cannot be reached, and AWS's agent crashes.
    Crash,
    /// The connection breaks, and the service has forgotten the session.
    Refused(Duration),
    /// The connection breaks, and none can be made any more.
    Lost(Duration),
    /// The agent is there and acknowledges nothing any more.
    Mute(Duration),
    /// The agent never asks for the handshake.
    NoHandshake,
    /// The client may not use the key.
    NoKey,
}

/// How long a client of [`Ending::Lost`] tries.
pub(crate) const RECONNECT: Duration = Duration::from_secs(20);

/// How long a client of [`Ending::Mute`] waits.
pub(crate) const GIVE_UP: Duration = Duration::from_secs(30);

/// How long a client of [`Ending::NoHandshake`] waits.
const HANDSHAKE: Duration = Duration::from_secs(60);

/// Longer than any trouble: what is not to run out.
pub(crate) const PATIENCE: Duration = Duration::from_secs(600);

const SILENCE: Duration = Duration::from_secs(20);

impl Plan {
    pub(crate) fn new(seed: u64) -> Self {
        let mut dice = Dice(ChaCha8Rng::seed_from_u64(seed ^ 0x5e55_1045));
        let kind = dice.one_of(&[
            Kind::Mux,
            Kind::Mux,
            Kind::Mux,
            Kind::Basic,
            Kind::Stream,
            Kind::Shell(Handshake::Required),
            Kind::Shell(Handshake::Skipped),
            Kind::Encrypted,
            Kind::Command,
        ]);
        let (client_version, agent_version) = dice.versions(kind);
        let conditions = dice.weather();
        let ending = dice.ending(kind);
        // Far more in flight than the other side can hold back is a slow way to send.
        let (in_flight_max, reorder_max) =
            dice.one_of(&[(8, 4), (40, 4), (8, 64), (200, 64), (200, 8192), (4096, 8192), (4096, 8192)]);
        Self {
            kind,
            client_version,
            agent_version,
            agent: dice.one_of(&[Profile::Fast, Profile::Aws]),
            payload: dice.one_of(&[
                (1024, 1024, 1024),
                (1024, 32 * 1024, 1024),
                (1024, 32 * 1024, 8192),
                (64, 64, 200),
            ]),
            pacing: dice.one_of(&[None, Some(Pacing { per_second: 900, burst: 100 })]),
            in_flight_max,
            reorder_max,
            window_max: dice.one_of(&[256 * 1024, 4 * 1024 * 1024]),
            receive_limit: dice.one_of(&[16 * 1024, 4 * 1024 * 1024]),
            connections: dice.connections(kind, ending),
            faults: dice.faults(&conditions, ending),
            conditions,
            ending,
        }
    }

    /// The client's configuration and the agent's.
    pub(crate) fn configs(&self) -> (Config, Config) {
        let offer = self.offer();
        let client = Config {
            version: self.client_version.into(),
            payload_len: self.payload.0,
            payload_max: self.payload.1,
            pacing: self.pacing,
            in_flight_max: self.in_flight_max,
            reorder_max: self.reorder_max,
            window_max: self.window_max,
            assume_ready: (!self.kind.is_port()).then_some(Duration::from_secs(3)),
            handshake_timeout: if self.ending == Ending::NoHandshake { HANDSHAKE } else { PATIENCE },
            keep_alive: SILENCE / 4,
            silence: SILENCE,
            give_up: if matches!(self.ending, Ending::Mute(_)) { GIVE_UP } else { PATIENCE },
            reconnect: matches!(self.ending, Ending::Lost(_)).then_some(RECONNECT),
            ..Config::client()
        };
        let agent = Config {
            version: self.agent_version.into(),
            payload_len: self.payload.2,
            strictness: if self.conditions.damage > 0 { Strictness::Strict } else { Strictness::Unchecked },
            in_flight_max: self.in_flight_max,
            reorder_max: self.reorder_max,
            handshake_timeout: client.handshake_timeout,
            keep_alive: client.keep_alive,
            silence: client.silence,
            give_up: PATIENCE,
            ..Config::agent("i-0", offer)
        };
        (client, agent)
    }

    fn offer(&self) -> Offer {
        match self.kind {
            Kind::Mux | Kind::Basic => port(),
            Kind::Stream => {
                let properties = RawValue::from_string(r#"{"portNumber":"22"}"#.to_owned());
                Offer { properties: properties.ok(), ..port() }
            }
            Kind::Shell(handshake) => shell(handshake),
            Kind::Encrypted => encrypted(),
            Kind::Command => {
                Offer { session_type: "NonInteractiveCommands".into(), ..shell(Handshake::Required) }
            }
        }
    }

    /// The shortest way that a frame ever has.
    pub(crate) fn delay_min(&self) -> Duration {
        let later = self.faults.iter().filter_map(|(_, fault)| match fault {
            Fault::Rotation(delay) => Some(*delay),
            _ => None,
        });
        later.fold(self.conditions.delay, Duration::min)
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, client_version, agent_version, agent, conditions, payload, .. } = self;
        writeln!(
            f,
            "{kind:?}, client {client_version}, agent {agent_version:?} {agent:?}, {payload:?} bytes"
        )?;
        writeln!(f, "  {conditions:?}")?;
        let Self { pacing, in_flight_max, reorder_max, window_max, receive_limit, .. } = self;
        writeln!(f, "  {pacing:?}, {in_flight_max} in flight, {reorder_max} parked, window {window_max}")?;
        writeln!(f, "  {receive_limit} bytes held by the multiplexer")?;
        self.connections.iter().try_for_each(|connection| writeln!(f, "  {connection:?}"))?;
        self.faults.iter().try_for_each(|(at, fault)| writeln!(f, "  after {at:?}: {fault:?}"))?;
        write!(f, "  ending: {:?}", self.ending)
    }
}

impl Kind {
    pub(crate) fn is_port(self) -> bool {
        matches!(self, Self::Mux | Self::Basic | Self::Stream)
    }
}

impl Fault {
    /// Whether somebody is away so long that a session could not start.
    pub(crate) fn lasts(self) -> bool {
        matches!(
            self,
            Self::HalfOpen(..)
                | Self::Unreachable(..)
                | Self::NotReady(_)
                | Self::StuckReader(..)
                | Self::StuckSocket(..)
        )
    }
}

impl Dice {
    fn versions(&mut self, kind: Kind) -> (&'static str, &'static str) {
        match kind {
            // Keep-alives are expected of clients by older agents.
            Kind::Mux => ("1.2.764.0", self.one_of(&["3.3.987.0", "3.3.987.0", "3.1.1511.0", "3.0.196.1"])),
            // An agent that cannot multiplex, or a client that does not want it. The oldest heeds no flag.
            Kind::Basic => self.one_of(&[
                ("1.2.764.0", "3.0.196.0"),
                ("1.2.764.0", "2.3.722.0"),
                ("1.0.0.0", "3.3.987.0"),
            ]),
            _ => ("1.2.764.0", self.one_of(&["3.3.987.0", "3.0.196.0", ""])),
        }
    }

    fn weather(&mut self) -> Conditions {
        Conditions {
            delay: self.one_of(&[0, 1, 20, 20, 100, 400].map(Duration::from_millis)),
            jitter: self.one_of(&[0, 0, 30].map(Duration::from_millis)),
            loss: self.one_of(&[0, 0, 10, 10, 50, 200]),
            duplicates: self.one_of(&[0, 0, 50, 300]),
            reorder: self.one_of(&[0, 0, 50, 300]),
            damage: self.one_of(&[0, 0, 0, 30]),
            bytes_per_ms: self.one_of(&[None, None, Some(2000), Some(100)]),
            bottleneck: self.one_of(&[None, None, Some(2000), Some(200)]),
            frame_max: self.one_of(&[None, None, None, Some(9 * 1024)]),
        }
    }

    fn ending(&mut self, kind: Kind) -> Ending {
        let at = self.ms(6_000);
        match self.below(16) {
            0 => Ending::Refused(at),
            1 => Ending::Lost(at),
            2 => Ending::Mute(at),
            3 | 4 if kind == Kind::Encrypted => Ending::NoKey,
            3 if kind.is_port() => Ending::NoHandshake,
            4 | 5 if matches!(kind, Kind::Basic | Kind::Stream) => Ending::Crash,
            6..=10 if !matches!(kind, Kind::Mux | Kind::Basic) => Ending::AgentEnds,
            _ => Ending::Terminate,
        }
    }

    fn connections(&mut self, kind: Kind, ending: Ending) -> Vec<Connection> {
        let count = match kind {
            Kind::Mux => self.one_of(&[0, 1, 3, 3, 8, 40]),
            Kind::Basic => self.one_of(&[1, 2, 4]),
            _ => 1,
        };
        (0..count).map(|number| self.connection(kind, ending, count, number)).collect()
    }

    fn connection(&mut self, kind: Kind, ending: Ending, count: u32, number: u32) -> Connection {
        let most = if count > 4 { 4_000 } else { 60_000 };
        let mut amount = |least: u64| least.max(self.one_of(&[0, 1, 100, 5_000, most, most]));
        let (up, down) = (amount(1), amount(0));
        let mut course = match kind {
            Kind::Mux => self.one_of(&[
                Course::Reply,
                Course::Reply,
                Course::Talk,
                Course::Talk,
                Course::HangUp,
                Course::Abort,
                Course::Refused,
            ]),
            Kind::Basic => self.one_of(&[Course::Reply, Course::Talk, Course::HangUp]),
            // What a stream's connection does decides who ends the session.
            Kind::Stream if ending == Ending::Terminate => Course::HangUp,
            _ => self.one_of(&[Course::Reply, Course::Talk]),
        };
        if ending == Ending::Crash && number == 0 {
            course = Course::Refused;
        }
        // With one connection at a time, bytes that come after its end cannot be told from those of the next.
        let down = match (kind, course) {
            (Kind::Basic | Kind::Stream, Course::HangUp) => 0,
            (_, Course::Abort) => down.max(2),
            _ => down,
        };
        let slow = [0, 0, 0, 0, 3_000].map(Duration::from_millis);
        Connection {
            opens: self.ms(1_500),
            up,
            down,
            course,
            dial: self.one_of(&[0, 0, 5, 300].map(Duration::from_millis)),
            slow_program: self.one_of(&slow),
            slow_destination: self.one_of(&slow),
        }
    }

    fn faults(&mut self, conditions: &Conditions, ending: Ending) -> Vec<(Duration, Fault)> {
        let late = self.one_of(&[0, 0, 0, 0, 0, 0, 0, 8_000]);
        let mut faults = vec![(self.ms(late + 1), Fault::Arrival)];
        let count = self.one_of(&[0, 1, 2, 4, 8]);
        while faults.len() <= count {
            let at = self.ms(6_000);
            faults.push((at, self.fault(conditions, ending)));
        }
        faults.sort_by_key(|(at, _)| *at);
        faults
    }

    fn fault(&mut self, conditions: &Conditions, ending: Ending) -> Fault {
        let side = self.side();
        match self.below(14) {
            0 => Fault::Close(side),
            1 => Fault::Reset(side),
            2 => Fault::HalfOpen(side, (self.below(2) == 0).then(|| self.ms(30_000))),
            // A client that gives up after a while must not do so too soon.
            3 if matches!(ending, Ending::Lost(_)) => Fault::Reset(side),
            3 => Fault::Unreachable(side, self.ms(20_000)),
            4 => Fault::Rotation(self.one_of(&[conditions.delay, Duration::from_millis(60)])),
            // An agent that is never told to go on waits for the client to say something, and a client for the agent.
            5 if side == Role::Client && !matches!(ending, Ending::Mute(_)) && self.below(2) == 0 => {
                Fault::Pause(side, None)
            }
            5 => Fault::Pause(side, Some(self.ms(5_000))),
            6 => Fault::NotReady(self.ms(10_000)),
            7 | 8 => Fault::StuckReader(side, self.ms(10_000)),
            9 => Fault::StuckSocket(side, self.ms(10_000)),
            10 => Fault::RepeatedHandshake,
            11 => Fault::Suspend(side, self.one_of(&[2, 60, 3_600].map(Duration::from_secs))),
            _ => {
                let stray = self.one_of(&[
                    Stray::UnknownType,
                    Stray::AgentSessionState,
                    Stray::AcknowledgementOfTheFuture,
                    Stray::NoMessage,
                ]);
                Fault::Stray(side, stray)
            }
        }
    }
}
