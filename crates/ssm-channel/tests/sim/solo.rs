//! One channel whose peer is written by hand.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ssm_channel::{Channel, ChannelError, Config, Event, Role, Transmit};
use ssm_proto::body::Acknowledge;
use ssm_proto::{Header, Message, MessageBuf, MessageId, MessageType, PayloadType, Strictness, Token};

/// A connected channel and a clock.
pub(crate) struct Solo {
    pub(crate) now: Instant,
    pub(crate) role: Role,
    pub(crate) channel: Channel,
}

impl Solo {
    pub(crate) fn client(config: Config) -> Self {
        Self::new(Role::Client, config)
    }

    /// A client whose session has begun without a handshake.
    pub(crate) fn running(config: Config) -> Self {
        let mut solo = Self::client(config);
        solo.stream(0, PayloadType::Output, b"$ ").expect("output is fine");
        solo.messages();
        solo.events();
        solo
    }

    pub(crate) fn agent(config: Config) -> Self {
        Self::new(Role::Agent, config)
    }

    fn new(role: Role, config: Config) -> Self {
        let now = crate::origin();
        let mut channel =
            Channel::new(role, Arc::new(config), [3; 32], now, Duration::from_secs(1_700_000_000));
        channel.handle_connected(now, Token::new("token".into()));
        assert!(matches!(channel.poll_transmit(now), Some(Transmit::Text(_))));
        Self { now, role, channel }
    }

    /// A stream message of the peer arrives.
    pub(crate) fn stream(
        &mut self,
        sequence: i64,
        kind: PayloadType,
        payload: &[u8],
    ) -> Result<(), ChannelError> {
        let wire = self.stream_frame(sequence, kind, payload);
        self.channel.handle_binary(self.now, wire)
    }

    pub(crate) fn stream_frame(&self, sequence: i64, kind: PayloadType, payload: &[u8]) -> Bytes {
        let message_type = match self.role {
            Role::Client => MessageType::OutputStreamData,
            Role::Agent => MessageType::InputStreamData,
        };
        let id = MessageId::from_random([sequence as u8; 16]);
        frame(Header::stream(message_type, kind, sequence, id, 1), payload)
    }

    /// An acknowledgement of the peer arrives.
    pub(crate) fn acknowledge(&mut self, sequence: i64) {
        let mut buf = MessageBuf::with_capacity(Acknowledge::MAX_LEN);
        Acknowledge {
            message_type: MessageType::InputStreamData,
            message_id: MessageId::default(),
            sequence,
        }
        .encode(&mut buf);
        let wire = buf.finish(Header::control(MessageType::Acknowledge, MessageId::default(), 1));
        self.channel.handle_binary(self.now, wire).expect("an acknowledgement is no error");
    }

    pub(crate) fn send(&mut self, kind: PayloadType, payload: &[u8]) {
        let mut buf = MessageBuf::with_capacity(payload.len());
        buf.put_slice(payload);
        self.channel.send(self.now, kind, buf).expect("the channel takes it");
    }

    /// Time passes, with every deadline served, and what is sent meanwhile.
    pub(crate) fn wait(&mut self, time: Duration) -> Vec<Message> {
        let until = self.now + time;
        let mut sent = Vec::new();
        while let Some(at) = self.channel.poll_timeout().filter(|at| *at <= until) {
            self.now = self.now.max(at);
            self.channel.handle_timeout(self.now);
            sent.extend(self.messages());
        }
        self.now = until;
        sent.extend(self.messages());
        sent
    }

    /// What it sends now.
    pub(crate) fn messages(&mut self) -> Vec<Message> {
        std::iter::from_fn(|| self.channel.poll_transmit(self.now))
            .filter_map(|transmit| match transmit {
                Transmit::Binary(wire) => Some(Message::decode(wire, Strictness::Strict).expect("a message")),
                Transmit::Text(_) | Transmit::Ping => None,
            })
            .collect()
    }

    /// Numbers of the stream messages it sends now.
    pub(crate) fn numbers(&mut self) -> Vec<i64> {
        numbers(&self.messages())
    }

    /// Numbers it acknowledges now.
    pub(crate) fn acknowledged(&mut self) -> Vec<i64> {
        acknowledged(&self.messages())
    }

    pub(crate) fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.channel.poll_event()).collect()
    }
}

pub(crate) fn frame(header: Header, payload: &[u8]) -> Bytes {
    let mut buf = MessageBuf::with_capacity(payload.len());
    buf.put_slice(payload);
    buf.finish(header)
}

/// Numbers of stream messages.
pub(crate) fn numbers(messages: &[Message]) -> Vec<i64> {
    let stream = messages.iter().filter(|message| message.header.message_type.is_stream());
    stream.map(|message| message.header.sequence).collect()
}

/// Numbers that are acknowledged.
pub(crate) fn acknowledged(messages: &[Message]) -> Vec<i64> {
    let acks = messages.iter().filter(|message| message.header.message_type == MessageType::Acknowledge);
    acks.map(|message| Acknowledge::decode(&message.payload).expect("it is one").sequence).collect()
}
