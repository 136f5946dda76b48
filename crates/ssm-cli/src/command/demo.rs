//! `ssm demo`

#[cfg(feature = "demo")]
mod served;
#[cfg(feature = "demo")]
mod show;
#[cfg(feature = "demo")]
mod transfer;

#[cfg(feature = "demo")]
pub(crate) use show::run;

/// Says that this build cannot.
#[cfg(not(feature = "demo"))]
#[expect(clippy::unused_async, reason = "the other one waits")]
pub(crate) async fn run(_: &crate::args::DemoArgs) -> Result<std::process::ExitCode, crate::error::Error> {
    Err(crate::error::Error::NeedsDemo("ssm demo"))
}
