//! The ways a connection is lost in the benches of resuming, and the table of the times.

use std::error::Error;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

/// Each takes away the connection at the next data message: going out, whose answer waits for the new connection, or coming in, which
/// the agent has to send again.
pub(crate) const LOSSES: &[&str] = &[
    "cut=1,class=data,direction=up,times=1",
    "reset=1,class=data,direction=up,times=1",
    "close=1000,every=1,class=data,direction=up,times=1",
    "close=1001,every=1,class=data,direction=up,times=1",
    "cut=1,class=data,direction=down,times=1",
    "reset=1,class=data,direction=down,times=1",
];

/// The target, for 99 of 100.
const TARGET: Duration = Duration::from_millis(300);

/// How long a resume may take before it counts as failed.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often the connection is lost: `--cuts N`, or 1,000 times.
pub(crate) fn cuts() -> usize {
    let mut args = std::env::args().skip_while(|arg| arg != "--cuts").skip(1);
    args.next().map_or(1000, |count| count.parse().expect("--cuts takes a number"))
}

/// Waits until a session has been resumed so often, which its notices count.
///
/// # Errors
/// When that does not happen.
pub(crate) async fn resumed(
    resumes: &mut watch::Receiver<usize>,
    often: usize,
) -> Result<(), Box<dyn Error + Send + Sync>> {
    match timeout(PATIENCE, resumes.wait_for(|count| *count >= often)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(_)) => Err(format!("the session ended after loss {often}").into()),
        Err(_elapsed) => Err(format!("not resumed after loss {often}").into()),
    }
}

/// Times of one kind of loss.
#[derive(Debug, Default, Clone)]
pub(crate) struct Samples(Vec<Duration>);

impl Samples {
    pub(crate) fn push(&mut self, sample: Duration) {
        self.0.push(sample);
    }

    fn percentile(&self, percent: usize) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort();
        let rank = (sorted.len() * percent).div_ceil(100).max(1);
        sorted.get(rank - 1).copied().unwrap_or_default()
    }
}

/// Prints a row for each way, and one for all.
///
/// # Errors
/// When the target is missed.
pub(crate) fn print(who: &str, samples: &[Samples]) -> Result<(), Box<dyn Error + Send + Sync>> {
    println!("| {who} lost by | cuts | p50 ms | p99 ms | slowest ms |");
    println!("|---|---|---|---|---|");
    let all = Samples(samples.iter().flat_map(|samples| samples.0.clone()).collect());
    let rows = LOSSES.iter().zip(samples).map(|(name, samples)| (name.split(",times").next(), samples));
    for (name, samples) in rows.chain([(Some("all"), &all)]) {
        let ms = |percent| format!("{:.1}", samples.percentile(percent).as_secs_f64() * 1000.0);
        let name = name.unwrap_or_default();
        println!("| `{name}` | {} | {} | {} | {} |", samples.0.len(), ms(50), ms(99), ms(100));
    }
    if all.percentile(99) > TARGET {
        return Err(format!("the target of {} ms is missed", TARGET.as_millis()).into());
    }
    Ok(())
}
