//! What an agent does otherwise than a client, as AWS's does.

use std::time::Duration;

use ssm_channel::{Config, Event, Handshake};
use ssm_proto::{PayloadType, Token};

use crate::pair::shell;
use crate::solo::Solo;

const SECOND: Duration = Duration::from_secs(1);
const INSTANT: Duration = Duration::from_millis(1);

fn agent() -> Solo {
    let mut agent = Solo::agent(Config::agent("i-0", shell(Handshake::Skipped)));
    agent.events();
    agent
}

#[test]
fn an_agent_takes_what_has_another_digest() {
    let mut agent = agent();
    let mut damaged = agent.stream_frame(0, PayloadType::Output, b"text").to_vec();
    *damaged.last_mut().unwrap() ^= 1;
    agent.channel.handle_binary(agent.now, damaged.into()).unwrap();
    assert_eq!(agent.acknowledged(), [0]);
    assert!(matches!(&agent.events()[..], [Event::Payload { payload, .. }] if payload == "texu"));
}

#[test]
fn an_agent_sends_as_fast_as_it_can() {
    let mut agent = agent();
    for _ in 0..400 {
        agent.send(PayloadType::Output, b"x");
        assert_eq!(agent.numbers().len(), 1);
    }
}

/// Agent `config.go`; `websocketchannel.go`, which waits for so long on a new connection.
#[test]
fn an_agent_pings_every_54_seconds_and_gives_up_a_connection_after_114() {
    let mut agent = agent();
    let is_ping = |agent: &mut Solo| {
        let sent = std::iter::from_fn(|| agent.channel.poll_transmit(agent.now));
        sent.filter(|transmit| matches!(transmit, ssm_channel::Transmit::Ping)).count() == 1
    };
    let tick = |agent: &mut Solo, time: Duration| {
        agent.now += time;
        agent.channel.handle_timeout(agent.now);
    };
    tick(&mut agent, 54 * SECOND - INSTANT);
    assert!(!is_ping(&mut agent));
    tick(&mut agent, INSTANT);
    assert!(is_ping(&mut agent));
    tick(&mut agent, 60 * SECOND - INSTANT);
    assert!(agent.events().is_empty());
    tick(&mut agent, INSTANT);
    tick(&mut agent, Duration::ZERO);
    assert!(matches!(agent.events()[..], [Event::Redial { attempt: 0 }]));
    agent.channel.handle_connected(agent.now, Token::new("again".into()));
    assert!(matches!(agent.events()[..], [Event::Resumed]));
}
