//! Connections outlive the WebSocket they were carried by.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ssm_loopback::fault::{Odds, random};
use ssm_loopback::{Direction, Loopback, RuleGuard, Verdict};
use ssm_portfwd::{Config, Notice};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{Forward, Server, exchange, fast, loopback, old, pattern, read_exactly};

#[tokio::test]
async fn an_upload_survives_cuts() {
    transfer(Cut { direction: Direction::ClientToAgent, every: 40, how: Verdict::Cut }, fast(), Way::Up)
        .await;
}

#[tokio::test]
async fn a_download_survives_cuts() {
    transfer(Cut { direction: Direction::AgentToClient, every: 40, how: Verdict::Cut }, fast(), Way::Down)
        .await;
}

#[tokio::test]
async fn an_upload_survives_the_loss_of_the_way_back() {
    transfer(Cut { direction: Direction::AgentToClient, every: 40, how: Verdict::Cut }, fast(), Way::Up)
        .await;
}

#[tokio::test]
async fn a_download_survives_the_loss_of_the_way_out() {
    transfer(Cut { direction: Direction::ClientToAgent, every: 40, how: Verdict::Cut }, fast(), Way::Down)
        .await;
}

#[tokio::test]
async fn item_18_transfers_survive_the_hourly_goodbye() {
    let bye = |direction| Cut { direction, every: 40, how: Verdict::Bye };
    transfer(bye(Direction::ClientToAgent), fast(), Way::Up).await;
    transfer(bye(Direction::AgentToClient), fast(), Way::Down).await;
}

#[tokio::test]
async fn basic_mode_survives_cuts() {
    transfer(Cut { direction: Direction::ClientToAgent, every: 40, how: Verdict::Cut }, old(), Way::Up).await;
    transfer(Cut { direction: Direction::AgentToClient, every: 40, how: Verdict::Cut }, old(), Way::Down)
        .await;
}

#[tokio::test]
async fn many_connections_survive_cuts_together() {
    let (loopback, server) = (loopback().await, Server::echo().await);
    let mut forward = Forward::start(&loopback, server.port).await;
    let (_rule, cuts) =
        Cut { direction: Direction::ClientToAgent, every: 60, how: Verdict::Cut }.apply(&loopback);
    let mut tasks = tokio::task::JoinSet::new();
    for seed in 0..20 {
        let mut stream = forward.connect().await;
        tasks.spawn(async move {
            for round in 0..10 {
                let data = pattern(seed ^ round, 20_000);
                assert!(exchange(&mut stream, &data).await == data, "connection {seed}, round {round}");
            }
        });
    }
    tasks.join_all().await;
    assert!(cuts.load(Ordering::Relaxed) >= 2, "{cuts:?}");
    forward.until(|notice| matches!(notice, Notice::Resumed { .. })).await;
}

#[tokio::test]
async fn a_bad_line_costs_time_and_nothing_else() {
    let (loopback, server) = (loopback().await, Server::echo().await);
    let forward = Forward::start(&loopback, server.port).await;
    let odds = Odds { drop: 20, duplicate: 20, corrupt: 0, delay: 50, max_delay: Duration::from_millis(3) };
    let _rule = loopback.rule(random(11, odds));
    let data = pattern(6, 1_000_000);
    assert!(exchange(&mut forward.connect().await, &data).await == data);
}

#[tokio::test]
async fn a_connection_made_while_the_line_is_down_waits_for_it() {
    let (loopback, server) = (loopback().await, Server::echo().await);
    let mut forward = Forward::start(&loopback, server.port).await;
    let mut before = forward.connect().await;
    let (rule, _) = Cut { direction: Direction::ClientToAgent, every: 1, how: Verdict::Cut }.apply(&loopback);
    before.write_all(b"lost at first").await.unwrap();
    forward.until(|notice| matches!(notice, Notice::Redial { .. })).await;
    let mut during = forward.connect().await;
    during.write_all(b"early").await.unwrap();
    drop(rule);
    assert_eq!(read_exactly(&mut before, 13).await, b"lost at first");
    assert_eq!(read_exactly(&mut during, 5).await, b"early");
}

#[derive(Clone, Copy, PartialEq)]
enum Way {
    Up,
    Down,
}

/// Several MiB one way, again until the line was cut twice: how many messages that takes depends on how many one acknowledgement
/// is for.
async fn transfer(cut: Cut, config: ssm_session::Config, way: Way) {
    const LEN: usize = 6_000_000;
    let loopback = loopback().await;
    let server = Server::start(move |mut stream| async move {
        let mut request = vec![0; if way == Way::Up { LEN } else { 2 }];
        loop {
            stream.read_exact(&mut request).await?;
            if way == Way::Up {
                assert!(request == pattern(5, LEN));
                stream.write_all(b"all of it").await?;
            } else {
                assert_eq!(request, b"go");
                stream.write_all(&pattern(5, LEN)).await?;
            }
        }
    })
    .await;
    let mut forward = Forward::with(&loopback, server.port, config, Config::default()).await;
    let (_rule, cuts) = cut.apply(&loopback);
    let mut stream = forward.connect().await;
    while cuts.load(Ordering::Relaxed) < 2 {
        if way == Way::Up {
            stream.write_all(&pattern(5, LEN)).await.unwrap();
            assert_eq!(read_exactly(&mut stream, 9).await, b"all of it");
        } else {
            stream.write_all(b"go").await.unwrap();
            assert!(read_exactly(&mut stream, LEN).await == pattern(5, LEN));
        }
    }
    drop(stream);
    // A cut takes the sender's socket; only a goodbye always takes ours.
    if cut.direction == Direction::ClientToAgent || cut.how == Verdict::Bye {
        forward.until(|notice| matches!(notice, Notice::Resumed { .. })).await;
    }
    assert_eq!(server.connections(), 1);
}

/// Cuts the line at every so many messages of one direction, acknowledgements included.
#[derive(Clone, Copy)]
struct Cut {
    direction: Direction,
    every: usize,
    how: Verdict,
}

impl Cut {
    fn apply(self, loopback: &Loopback) -> (RuleGuard, Arc<AtomicUsize>) {
        let cuts = Arc::<AtomicUsize>::default();
        let counted = Arc::clone(&cuts);
        let mut messages = 0;
        let rule = loopback.rule(move |direction, _| {
            if direction != self.direction {
                return Verdict::Deliver;
            }
            messages += 1;
            if messages % self.every != 0 {
                return Verdict::Deliver;
            }
            counted.fetch_add(1, Ordering::Relaxed);
            self.how
        });
        (rule, cuts)
    }
}
