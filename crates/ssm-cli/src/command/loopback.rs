//! `ssm loopback`

use std::process::ExitCode;

#[cfg(all(feature = "aws", feature = "demo"))]
mod kms;

use crate::args::LoopbackArgs;
use crate::error::Error;

/// Runs the command.
#[cfg(feature = "demo")]
pub(crate) async fn run(args: &LoopbackArgs) -> Result<ExitCode, Error> {
    use std::io;
    use std::net::Ipv4Addr;

    use ssm_loopback::{Config, Kms, KmsChallenge, Loopback};

    use crate::args::DurationArg;
    use crate::error::port_advice;
    use crate::process::Signals;

    let mut signals = Signals::take().map_err(Error::local("cannot watch for signals"))?;
    let kms = args.kms_key.clone().map(|key_id| Kms {
        key_id,
        challenge: KmsChallenge::Offered,
        authority: authority(args),
    });
    let (profile, faults) = (args.agent.profile.into(), args.fault.clone());
    let mut config = Config { port: args.port, profile, kms, faults, ..Config::default() };
    if let Some(target) = &args.target {
        config.targets = vec![target.to_string()];
    }
    if let Some(DurationArg(time)) = args.connected_after {
        config.connected_after = time;
    }
    let loopback = Loopback::start(config).await.map_err(|source| {
        let source = match port_advice(&[Ipv4Addr::LOCALHOST.into()], args.port, source.kind()) {
            Some(advice) => io::Error::new(source.kind(), advice),
            None => source,
        };
        Error::Local { what: "cannot start the loopback", source }
    })?;
    // The keys open this machine to whoever has them, so nobody else may learn them; this user may, here and only here.
    eprint!("{}", example(&loopback, args));
    signals.next().await;
    loopback.shutdown().await;
    Ok(ExitCode::SUCCESS)
}

/// Who decrypts data keys for the agent.
#[cfg(all(feature = "aws", feature = "demo"))]
fn authority(args: &LoopbackArgs) -> Option<std::sync::Arc<dyn ssm_loopback::KmsAuthority>> {
    Some(std::sync::Arc::new(kms::Elsewhere::new(args.kms_endpoint_url.clone()?)))
}

#[cfg(all(not(feature = "aws"), feature = "demo"))]
fn authority(_: &LoopbackArgs) -> Option<std::sync::Arc<dyn ssm_loopback::KmsAuthority>> {
    None
}

#[cfg(feature = "demo")]
fn example(loopback: &ssm_loopback::Loopback, args: &LoopbackArgs) -> String {
    format!(
        "Session Manager on {url} (profile {profile}). Its machine is this one. Ctrl-C ends it.\n\
         \n\
         export AWS_ENDPOINT_URL={url}\n\
         export AWS_ACCESS_KEY_ID={access_key}\n\
         export AWS_SECRET_ACCESS_KEY={secret_key}\n\
         export AWS_REGION={region}\n\
         export AWS_DEFAULT_REGION={region}\n\
         ssm shell {target}\n",
        url = loopback.endpoint_url(),
        profile = args.agent.profile,
        access_key = loopback.access_key(),
        secret_key = loopback.secret_key().expose(),
        region = loopback.region(),
        target = loopback.target(),
    )
}

#[cfg(feature = "demo")]
impl From<crate::args::AgentProfile> for ssm_loopback::Profile {
    fn from(profile: crate::args::AgentProfile) -> Self {
        match profile {
            crate::args::AgentProfile::Fast => Self::Fast,
            crate::args::AgentProfile::Aws => Self::Aws,
        }
    }
}

/// Says that this build cannot.
#[cfg(not(feature = "demo"))]
#[expect(clippy::unused_async, reason = "the other one waits")]
pub(crate) async fn run(_: &LoopbackArgs) -> Result<ExitCode, Error> {
    Err(Error::NeedsDemo("ssm loopback"))
}
