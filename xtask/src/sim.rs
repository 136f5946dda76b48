//! `cargo xtask sim`: whole sessions on a virtual clock, in an optimised build that keeps every assertion.

use std::time::Instant;

use crate::process::{Failure, cargo, run as run_command};
use crate::workspace::Workspace;

/// Sessions when nothing is said.
const DEFAULT_SEEDS: u64 = 20_000;

/// The test that plays them; it is in `ssm-channel/tests/sim/session`.
const TEST: &str = "every_session_carries_its_bytes_and_ends_for_one_reason";

/// Which sessions to play.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Request {
    first: u64,
    seeds: u64,
}

impl Request {
    pub(crate) fn new(seeds: u64) -> Self {
        Self { first: 0, seeds }
    }

    /// `[--seeds N] [--first S]`
    ///
    /// # Errors
    /// On an unknown flag or a number that is none.
    pub(crate) fn parse(args: &[String]) -> Result<Self, Failure> {
        let mut request = Self::new(DEFAULT_SEEDS);
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            let place = match arg.as_str() {
                "--seeds" => &mut request.seeds,
                "--first" => &mut request.first,
                _ => {
                    return Err(Failure::new(format!(
                        "unknown flag {arg}; sim takes --seeds N and --first S"
                    )));
                }
            };
            let number = args.next().and_then(|number| number.parse().ok());
            *place = number.ok_or_else(|| Failure::new(format!("{arg} needs a whole number")))?;
        }
        Ok(request)
    }
}

/// Builds, then plays.
///
/// # Errors
/// When a session is not as it must be; its plan and the command that replays it are printed.
pub(crate) fn run(workspace: &Workspace, request: &Request) -> Result<(), Failure> {
    let test = || {
        let mut test = cargo(&workspace.root);
        test.args(["test", "--locked", "--quiet", "--profile", "sim", "--package", "ssm-channel"]);
        test.args(["--test", "sim"]);
        test
    };
    run_command(test().arg("--no-run"))?;
    let start = Instant::now();
    let mut play = test();
    play.args(["--", "--exact", TEST, "--nocapture"]);
    play.env("SSM_SIM_FIRST", request.first.to_string());
    play.env("SSM_SIM_SESSIONS", request.seeds.to_string());
    run_command(&mut play)?;
    let took = start.elapsed().as_secs_f64();
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let rate = request.seeds as f64 / took;
    eprintln!("{rate:.0} sessions a second on {cores} cores");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Request, Failure> {
        Request::parse(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn a_request_has_a_count_and_a_first_seed() {
        assert_eq!(parse("").unwrap(), Request { first: 0, seeds: DEFAULT_SEEDS });
        assert_eq!(parse("--first 7 --seeds 1").unwrap(), Request { first: 7, seeds: 1 });
    }

    #[test]
    fn an_unknown_flag_is_refused() {
        assert!(parse("--seed 5").is_err());
        assert!(parse("--seeds many").is_err());
        assert!(parse("--seeds").is_err());
    }
}
