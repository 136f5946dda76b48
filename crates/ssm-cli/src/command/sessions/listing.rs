//! Which sessions there are.

use std::process::ExitCode;
use std::time::SystemTime;

use aws_sdk_ssm::primitives::{DateTime, DateTimeFormat};
use aws_sdk_ssm::types::{Session, SessionFilter, SessionFilterKey, SessionState};
use serde_json::json;
use ssm_session::AwsControl;

use crate::args::{ConnectionArgs, DurationArg, SessionsArgs, WhichArgs};
use crate::config::Config;
use crate::error::Error;
use crate::lookup;
use crate::options;
use crate::output::{Reader, say};
use crate::remembered::{self, Fate};
use crate::table::{Form, Rows};

/// Sessions in one answer: the most that the API gives.
const PAGE: i32 = 200;

/// Lists.
pub(super) async fn run(mut args: SessionsArgs, config: &Config) -> Result<ExitCode, Error> {
    let which = args.which;
    let target = of_target(which.target.as_deref(), &mut args.connection, config);
    let account = options::account(&args.connection).await?;
    let query = Query::new(&which, target.as_deref(), &args.connection, &account).await?;
    const HEAD: [&str; 7] = ["SESSION", "TARGET", "STATUS", "OWNER", "STARTED", "ENDED", "REASON"];
    let mut rows = Rows::new(HEAD, Form::of(args.json), "sessions");
    let mut shown = 0;
    let mut pages = Pages::new(&account, query);
    while let Some(page) = pages.next_page().await? {
        for session in &page {
            if rows.add(|| row(session), || to_json(session))? == Reader::Gone {
                return Ok(ExitCode::SUCCESS);
            }
        }
        shown += page.len();
        rows.looked_at(shown);
    }
    rows.finish()?;
    if shown == 0 {
        say(if which.all || which.owner.is_some() {
            "no sessions"
        } else {
            "no sessions of yours; --all has those of others"
        });
    }
    let orphans = remembered::all().unwrap_or_default();
    if orphans.iter().any(|entry| entry.fate() == Fate::Gone) {
        say("runs that were killed may have left sessions behind: ssm sessions orphans shows them");
    }
    Ok(ExitCode::SUCCESS)
}

/// Fills in the account, that of an alias too, and gives what is to be looked up.
pub(super) fn of_target(
    written: Option<&str>,
    connection: &mut ConnectionArgs,
    config: &Config,
) -> Option<String> {
    let alias = config.fill(written, connection);
    alias.map(|alias| alias.target.text.clone()).or_else(|| written.map(Into::into))
}

/// What the API is asked for.
pub(super) struct Query {
    state: SessionState,
    filters: Vec<SessionFilter>,
}

impl Query {
    /// The sessions that are meant; `target` is still to be looked up.
    pub(super) async fn new(
        which: &WhichArgs,
        target: Option<&str>,
        connection: &ConnectionArgs,
        account: &AwsControl,
    ) -> Result<Self, Error> {
        // A mistake in it is told before anything is asked.
        let since = which.since.as_deref().map(|text| since(text, SystemTime::now())).transpose()?;
        let owner = match (&which.owner, which.all) {
            (Some(owner), _) => Some(owner.clone()),
            (None, true) => None,
            (None, false) => Some(caller(account).await?),
        };
        let target = match target {
            Some(_) => Some(lookup::session_target(target, connection).await?),
            None => None,
        };
        let filters = [
            (SessionFilterKey::Owner, owner),
            (SessionFilterKey::TargetId, target),
            (SessionFilterKey::Status, which.status.as_deref().map(capitalized)),
            (SessionFilterKey::InvokedAfter, since),
        ];
        let filters = filters.into_iter().filter_map(|(key, value)| {
            Some(SessionFilter::builder().key(key).value(value?).build().expect("both are there"))
        });
        let state = if which.history { SessionState::History } else { SessionState::Active };
        Ok(Self { state, filters: filters.collect() })
    }
}

/// A status as the API writes it, whatever the user did.
fn capitalized(word: &str) -> String {
    let (first, rest) = word.split_at(word.chars().next().map_or(0, char::len_utf8));
    first.to_uppercase() + &rest.to_lowercase()
}

/// Who asks, as the owner of sessions is written.
pub(super) async fn caller(account: &AwsControl) -> Result<String, Error> {
    let client = aws_sdk_sts::Client::new(account.sdk_config());
    let answer = client.get_caller_identity().send().await;
    let answer = answer.map_err(|error| {
        let error = AwsControl::failure("sts:GetCallerIdentity", "*", error);
        let message =
            format!("cannot tell which sessions are yours, --all lists those of everybody: {error}");
        Error::Api(ssm_session::ControlError::new(error.kind(), message))
    })?;
    answer.arn.filter(|arn| !arn.is_empty()).ok_or_else(|| {
        let message = "sts:GetCallerIdentity answered without an ARN";
        Error::Api(ssm_session::ControlError::new(ssm_session::ControlErrorKind::Service, message))
    })
}

/// A time ago, or a point in time, as the filter wants it.
fn since(text: &str, now: SystemTime) -> Result<String, Error> {
    let wrong = || {
        Error::Usage(format!(
            "--since {text}: give 90s, 5m, 2h or 1d, or a time such as 2026-01-31T08:00:00Z"
        ))
    };
    let time = match text.parse() {
        Ok(DurationArg(ago)) => DateTime::from(now.checked_sub(ago).unwrap_or(SystemTime::UNIX_EPOCH)),
        Err(_) => DateTime::from_str(text, DateTimeFormat::DateTimeWithOffset).map_err(|_| wrong())?,
    };
    DateTime::from_secs(time.secs()).fmt(DateTimeFormat::DateTime).map_err(|_| wrong())
}

/// Sessions, a page at a time.
pub(super) struct Pages<'a> {
    account: &'a AwsControl,
    query: Query,
    token: Option<String>,
    over: bool,
}

impl<'a> Pages<'a> {
    pub(super) fn new(account: &'a AwsControl, query: Query) -> Self {
        Self { account, query, token: None, over: false }
    }

    /// The next page, which may be empty; `None` behind the last one.
    pub(super) async fn next_page(&mut self) -> Result<Option<Vec<Session>>, Error> {
        if self.over {
            return Ok(None);
        }
        let call = self.account.ssm().describe_sessions().state(self.query.state.clone()).max_results(PAGE);
        let filters = (!self.query.filters.is_empty()).then(|| self.query.filters.clone());
        let answer = call.set_filters(filters).set_next_token(self.token.clone()).send().await;
        let answer =
            answer.map_err(|error| Error::Api(AwsControl::failure("ssm:DescribeSessions", "*", error)))?;
        let token = answer.next_token.filter(|token| !token.is_empty());
        // The same page for ever would be no end.
        self.over = token.is_none() || token == self.token;
        self.token = token;
        Ok(Some(answer.sessions.unwrap_or_default()))
    }

    /// All that is left.
    pub(super) async fn rest(&mut self) -> Result<Vec<Session>, Error> {
        let mut all = Vec::new();
        while let Some(page) = self.next_page().await? {
            all.extend(page);
        }
        Ok(all)
    }
}

fn row(session: &Session) -> [String; 7] {
    let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
    // What tells callers of one account apart.
    let owner = session.owner().unwrap_or_default();
    let owner = owner.rsplit('/').next().unwrap_or(owner);
    [
        text(session.session_id()),
        text(session.target()),
        text(session.status().map(|status| status.as_str())),
        owner.to_owned(),
        shown(session.start_date()),
        shown(session.end_date()),
        text(session.reason()),
    ]
}

/// A time for a person, in UTC as every log of AWS has it.
fn shown(time: Option<&DateTime>) -> String {
    time.and_then(|time| DateTime::from_secs(time.secs()).fmt(DateTimeFormat::DateTime).ok())
        .unwrap_or_default()
}

fn to_json(session: &Session) -> serde_json::Value {
    let time = |time: Option<&DateTime>| time.and_then(|time| time.fmt(DateTimeFormat::DateTime).ok());
    json!({
        "id": session.session_id(),
        "target": session.target(),
        "status": session.status().map(|status| status.as_str()),
        "owner": session.owner(),
        "document": session.document_name(),
        "reason": session.reason(),
        "started": time(session.start_date()),
        "ended": time(session.end_date()),
    })
}

/// A time for a person, from the number of seconds since 1970.
pub(super) fn shown_seconds(seconds: u64) -> String {
    shown(Some(&DateTime::from_secs(i64::try_from(seconds).unwrap_or(i64::MAX))))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_time_that_no_clock_shows_is_shown_as_nothing() {
        assert_eq!(shown_seconds(u64::MAX), "");
        assert!(shown_seconds(1_800_000_000).starts_with("2027-01-15"));
    }

    #[test]
    fn a_time_is_ago_or_a_point() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let of = |text| since(text, now).ok();
        assert_eq!(of("1h").as_deref(), Some("2027-01-15T07:00:00Z"));
        assert_eq!(of("0").as_deref(), Some("2027-01-15T08:00:00Z"));
        assert_eq!(of("2026-01-31T08:00:00Z").as_deref(), Some("2026-01-31T08:00:00Z"));
        assert_eq!(of("2026-01-31T08:00:00+02:00").as_deref(), Some("2026-01-31T06:00:00Z"));
        for wrong in ["", "yesterday", "2026-01-31", "-5m"] {
            assert_eq!(of(wrong), None, "{wrong}");
        }
    }
}
