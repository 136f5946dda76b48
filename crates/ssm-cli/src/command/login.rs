//! `ssm login` and `ssm logout`

use std::process::ExitCode;

use ssm_session::SignOn;

use crate::args::{LoginArgs, LogoutArgs};
use crate::config::Config;
use crate::error::Error;
use crate::options;
use crate::output::say;
use crate::sign_on::{self, Browser, Left};

/// Signs on.
pub(crate) async fn run(mut args: LoginArgs, config: &Config) -> Result<ExitCode, Error> {
    config.fill(None, &mut args.connection);
    let sign_on = find(args.sso_session.as_deref(), args.connection.profile.as_deref()).await?;
    let options = options::aws(&args.connection).await?;
    if !args.force
        && let Some(until) = sign_on.renew(&options).await.map_err(Error::Account)?
    {
        say(format_args!("the sign-on with {} was renewed, for {}", sign_on.name(), Left::until(until)));
        return Ok(ExitCode::SUCCESS);
    }
    let browser = if args.no_browser { Browser::User } else { Browser::Here };
    sign_on::run(&sign_on, &options, browser).await?;
    Ok(ExitCode::SUCCESS)
}

/// Forgets a sign-on.
pub(crate) async fn forget(args: &LogoutArgs, config: &Config) -> Result<ExitCode, Error> {
    let mut connection = crate::args::ConnectionArgs { profile: args.profile.clone(), ..Default::default() };
    config.fill(None, &mut connection);
    let sign_on = find(args.sso_session.as_deref(), connection.profile.as_deref()).await?;
    let was_there = sign_on.forget().map_err(Error::local("cannot remove the token"))?;
    let what = if was_there { "is forgotten" } else { "was not there" };
    say(format_args!("the sign-on with {} {what}", sign_on.name()));
    Ok(ExitCode::SUCCESS)
}

async fn find(session: Option<&str>, profile: Option<&str>) -> Result<SignOn, Error> {
    if let Some(session) = session {
        return SignOn::of_session(session).await.map_err(Error::Account);
    }
    let found = SignOn::of_profile(profile).await.map_err(Error::Account)?;
    found.ok_or_else(|| {
        let which = match profile {
            Some(profile) => format!("the profile {profile}"),
            None => "the profile that AWS_PROFILE names, or that is called default,".into(),
        };
        Error::Usage(format!(
            "{which} has no single sign-on: it takes sso_session or sso_start_url in ~/.aws/config, as `aws configure sso` writes \
             them; another one is named with --profile or --sso-session"
        ))
    })
}
