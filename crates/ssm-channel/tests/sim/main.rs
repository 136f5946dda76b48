//! Two channels, a seeded link, a virtual clock and a model of what must arrive.
//!
//! Each seed is a story of its own: a kind of session, a link that loses, doubles, reorders and damages frames, broken and
//! silent connections, pauses, a busy socket, an agent that is not ready. Whatever happens, everything that was sent arrives
//! once and in order, in time. A seed that fails is printed as the command that replays it; `SSM_SIM_SEEDS` is how many there
//! are.
//!
//! `session` has whole sessions, with what runs on top of both channels; `cargo xtask sim` plays them.

mod agent;
mod close;
mod conformance;
mod encryption;
mod flow;
mod handshake;
mod hostile;
mod idle;
mod limits;
mod link;
mod loss;
mod model;
mod pair;
mod resume;
mod session;
mod size;
mod solo;
mod stats;
mod story;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

/// Seeds of a normal run.
const SEEDS: u64 = 3_000;

#[test]
fn item_38_every_seed_delivers_everything_once_and_in_order() {
    if let Some(seed) = number("SSM_SIM_SEED") {
        story::Story::new(seed).run();
        return;
    }
    let seeds = number("SSM_SIM_SEEDS").unwrap_or(SEEDS);
    let mut seen = story::Seen::default();
    for seed in 0..seeds {
        match catch_unwind(AssertUnwindSafe(|| story::Story::new(seed).run())) {
            Ok(one) => seen.add(one),
            Err(panic) => {
                eprintln!("SSM_SIM_SEED={seed} cargo test -p ssm-channel --test sim seed -- --nocapture");
                resume_unwind(panic);
            }
        }
    }
    println!("{seeds} seeds: {seen:?}");
    if seeds >= SEEDS {
        seen.assert_everything_happened();
    }
}

/// Whole sessions of a normal run. `cargo xtask sim` plays more.
const SESSIONS: u64 = 200;

/// In so many sessions everything that can go wrong goes wrong.
const SESSIONS_ENOUGH: u64 = 2_000;

#[test]
fn every_session_carries_its_bytes_and_ends_for_one_reason() {
    let first = number("SSM_SIM_FIRST").unwrap_or(0);
    let seeds = number("SSM_SIM_SESSIONS").unwrap_or(SESSIONS);
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get) as u64;
    let next = AtomicU64::new(first);
    let failed = AtomicBool::new(false);
    let play = || {
        let mut seen = session::Seen::default();
        while let seed = next.fetch_add(1, Ordering::Relaxed)
            && seed < first + seeds
            && !failed.load(Ordering::Relaxed)
        {
            match catch_unwind(|| session::Session::new(seed).run()) {
                Ok(one) => seen.add(&one),
                Err(_) => {
                    failed.store(true, Ordering::Relaxed);
                    eprintln!("seed {seed} is {}", session::Plan::new(seed));
                    eprintln!("cargo xtask sim --first {seed} --seeds 1");
                }
            }
        }
        seen
    };
    let mut seen = session::Seen::default();
    std::thread::scope(|scope| {
        let players: Vec<_> = (0..cores.min(seeds)).map(|_| scope.spawn(play)).collect();
        players.into_iter().for_each(|player| seen.add(&player.join().expect("panics are caught")));
    });
    assert!(!failed.into_inner(), "a session failed");
    println!("{seeds} sessions: {seen:?}");
    if seeds >= SESSIONS_ENOUGH {
        seen.assert_everything_happened();
    }
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect("a number"))
}

#[expect(clippy::disallowed_methods, reason = "an origin for virtual time: only differences matter")]
fn origin() -> Instant {
    Instant::now()
}
