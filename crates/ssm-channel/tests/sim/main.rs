//! Two channels, a seeded link, a virtual clock and a model of what must arrive.
//!
//! Each seed is a story of its own: a kind of session, a link that loses, doubles, reorders and damages frames, broken and
//! silent connections, pauses, a busy socket, an agent that is not ready. Whatever happens, everything that was sent arrives
//! once and in order, in time. A seed that fails is printed as the command that replays it; `SSM_SIM_SEEDS` is how many there
//! are.

mod close;
mod encryption;
mod flow;
mod handshake;
mod hostile;
mod idle;
mod link;
mod loss;
mod model;
mod pair;
mod resume;
mod size;
mod solo;
mod story;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
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

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect("a number"))
}

#[expect(clippy::disallowed_methods, reason = "an origin for virtual time: only differences matter")]
fn origin() -> Instant {
    Instant::now()
}
