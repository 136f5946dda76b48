//! Sessions that an earlier run has left behind.

use std::collections::BTreeMap;
use std::process::ExitCode;

use aws_sdk_ssm::types::{SessionFilter, SessionFilterKey, SessionState};
use serde_json::json;
use ssm_session::AwsControl;

use super::{listing, terminate};
use crate::args::{ConnectionArgs, OrphansArgs};
use crate::config::Config;
use crate::error::Error;
use crate::options;
use crate::output::{Json, complain, print, say};
use crate::remembered::{self, Fate, Remembered};
use crate::table::Table;

/// Lists them.
pub(super) async fn run(args: &OrphansArgs, config: &Config) -> Result<ExitCode, Error> {
    let found = find(config).await?;
    let orphans: Vec<&Remembered> = found.iter().flat_map(|(_, orphans)| orphans).collect();
    if orphans.is_empty() {
        say("no sessions were left behind");
    }
    let text = if args.json {
        orphans.iter().map(|orphan| format!("{}\n", Json(to_json(orphan)))).collect::<String>()
    } else {
        let mut table = Table::new(["SESSION", "TARGET", "REGION", "PROFILE", "STARTED"]);
        for orphan in orphans {
            let profile = orphan.profile.as_deref().unwrap_or_default();
            let started = listing::shown_seconds(orphan.since);
            table.row([&orphan.session, &orphan.target, &orphan.region, profile, &started]);
        }
        table.text()
    };
    print(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// Ends them.
pub(super) async fn end(yes: bool, config: &Config) -> Result<ExitCode, Error> {
    let found = find(config).await?;
    let count = found.iter().map(|(_, orphans)| orphans.len()).sum();
    if count == 0 {
        say("no sessions were left behind");
        return Ok(ExitCode::SUCCESS);
    }
    terminate::confirm(count, yes).await?;
    let mut going_on = 0;
    for (account, orphans) in &found {
        for orphan in orphans {
            going_on += usize::from(!terminate::end(account, &orphan.session).await);
        }
    }
    terminate::outcome(count, going_on)
}

/// The sessions whose process is gone and which the service still has open, by account. What is written down about others that are over
/// is removed.
async fn find(config: &Config) -> Result<Vec<(AwsControl, Vec<Remembered>)>, Error> {
    let all = remembered::all().map_err(Error::local("cannot look for sessions"))?;
    let mut by_account: BTreeMap<_, Vec<Remembered>> = BTreeMap::new();
    for entry in all.into_iter().filter(|entry| entry.fate() == Fate::Gone) {
        let key = (entry.profile.clone(), entry.region.clone(), entry.endpoint_url.clone());
        by_account.entry(key).or_default().push(entry);
    }
    let mut found = Vec::new();
    for ((profile, region, endpoint_url), entries) in by_account {
        let mut connection =
            ConnectionArgs { profile, region: Some(region), endpoint_url, ..ConnectionArgs::default() };
        config.fill(None, &mut connection);
        // An account that cannot be had any more is in the way of no other.
        let account = match options::account(&connection).await {
            Ok(account) => account,
            Err(error @ Error::Left(_)) => return Err(error),
            Err(error) => {
                complain(&error);
                let old = entries.iter().filter(|entry| entry.is_old());
                old.for_each(|entry| remembered::forget(&entry.session));
                continue;
            }
        };
        let mut open = Vec::new();
        for entry in entries {
            match known(&account, &entry.session).await {
                Ok(Some(SessionState::Active)) => open.push(entry),
                Ok(Some(_)) => remembered::forget(&entry.session),
                // Credentials of another account know nothing of it.
                Ok(None) if entry.is_old() => remembered::forget(&entry.session),
                Ok(None) => {}
                Err(error) => complain(format_args!("session {}: {error}", entry.session)),
            }
        }
        if !open.is_empty() {
            found.push((account, open));
        }
    }
    Ok(found)
}

/// Whether a session is open or over, for a caller who may see it.
async fn known(account: &AwsControl, session: &str) -> Result<Option<SessionState>, Error> {
    for state in [SessionState::Active, SessionState::History] {
        let filter = SessionFilter::builder().key(SessionFilterKey::SessionId).value(session);
        let filter = filter.build().expect("both are there");
        let call = account.ssm().describe_sessions().state(state.clone()).filters(filter);
        match call.send().await {
            Ok(answer) if answer.sessions().is_empty() => {}
            Ok(_) => return Ok(Some(state)),
            Err(error) => return Err(Error::Api(AwsControl::failure("ssm:DescribeSessions", "*", error))),
        }
    }
    Ok(None)
}

fn to_json(orphan: &Remembered) -> serde_json::Value {
    json!({
        "id": orphan.session,
        "target": orphan.target,
        "region": orphan.region,
        "profile": orphan.profile,
        "started": listing::shown_seconds(orphan.since),
    })
}
