//! `ssm doctor`
//!
//! | module | what it looks at |
//! |---|---|
//! | `local` | this machine: configuration, folders, limits, terminal, proxy and certificates |
//! | `program` | `ssh`, the AWS CLI and its plugin |
//! | `account` | what several checks build on: credentials, clients, what the API has answered |
//! | `way` | the way to each endpoint, and the clock at its end |
//! | `permission` | what IAM allows |
//! | `document` | documents of sessions, the account's preferences and their key |
//! | `node` | the machine |
//! | `outcome`, `report` | what a check finds, and how that is told |

#[cfg(feature = "aws")]
mod account;
#[cfg(feature = "aws")]
mod document;
mod local;
#[cfg(feature = "aws")]
mod node;
mod outcome;
#[cfg(feature = "aws")]
mod permission;
mod program;
#[cfg(feature = "aws")]
mod refusal;
mod report;
#[cfg(feature = "aws")]
mod way;

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use self::outcome::Check;
use self::report::{Form, Tally};
use crate::args::DoctorArgs;
use crate::config::Config;
use crate::error::Error;
use crate::output::{print, say};

/// How long a program may take to say its version. The AWS CLI is slow on a busy machine.
const PROGRAM_LIMIT: Duration = Duration::from_secs(20);

/// Runs the command. A mistake in the configuration is a finding like any other.
pub(crate) async fn run(args: DoctorArgs, flag: Option<&Path>) -> Result<ExitCode, Error> {
    let DoctorArgs { target, json, mut connection } = args;
    let (config, mistake) = match Config::load(flag) {
        Ok(config) => (config, None),
        Err(mistake) => (Config::default(), Some(mistake)),
    };
    #[cfg(feature = "aws")]
    let case = account::Case::new(target, &mut connection, &config);
    #[cfg(not(feature = "aws"))]
    config.fill(target.as_deref(), &mut connection);
    #[cfg(feature = "aws")]
    let account = account::Account::new(&case, &connection);
    let mut checks = vec![
        Check::now("ssm", local::version),
        Check::now("config", || local::config(&config, mistake.as_ref())),
        Check::now("folders", local::folders),
        Check::now("open-files", local::open_files),
        Check::now("terminal", local::terminal),
        Check::new("ssh", PROGRAM_LIMIT, program::ssh()),
        Check::new("aws-cli", PROGRAM_LIMIT, program::aws_cli()),
        Check::new("plugin", PROGRAM_LIMIT, program::plugin()),
        Check::new("network", Duration::MAX, async { Ok(local::network(&connection).await) }),
    ];
    #[cfg(feature = "aws")]
    checks.extend(account.checks());
    #[cfg(not(feature = "aws"))]
    checks.push(Check::now("account", || outcome::Outcome::skip(Error::NeedsAws("the rest").to_string())));
    let form = if json { Form::Json } else { Form::Lines };
    let Tally { failed, warned, all } = report::run(checks, form, print).await?;
    if failed > 0 {
        return Err(Error::Unwell { failed, all });
    }
    match warned {
        0 => say(format_args!("nothing is wrong in {all} checks")),
        _ => say(format_args!("nothing has failed in {all} checks; warnings: {warned}")),
    }
    Ok(ExitCode::SUCCESS)
}
