//! What the user typed for `ssm login` and `ssm logout`.

use clap::Args as ClapArgs;

use super::ConnectionArgs;

/// Sign on with IAM Identity Center, for a profile that has its credentials from there
///
/// Shows a page to open in a browser, here or on any other device, and waits. The token is kept where the AWS CLI and the SDKs
/// look for it, so it is good for them as well.
#[derive(Debug, ClapArgs)]
pub(crate) struct LoginArgs {
    /// The [sso-session NAME] of ~/.aws/config, in place of that of the profile
    #[arg(long, value_name = "NAME", conflicts_with = "profile")]
    pub(crate) sso_session: Option<String>,
    /// Leave the browser to the user
    #[arg(long)]
    pub(crate) no_browser: bool,
    /// Begin anew in the browser, also when the last sign-on can be renewed without
    #[arg(long)]
    pub(crate) force: bool,
    #[command(flatten)]
    pub(crate) connection: ConnectionArgs,
}

/// Forget the sign-on of a profile on this machine
///
/// The AWS CLI and the SDKs find it no more either. Credentials that it has given already stay good until they expire.
#[derive(Debug, ClapArgs)]
pub(crate) struct LogoutArgs {
    /// The [sso-session NAME] of ~/.aws/config, in place of that of the profile
    #[arg(long, value_name = "NAME", conflicts_with = "profile")]
    pub(crate) sso_session: Option<String>,
    /// Profile of the AWS configuration files
    #[arg(long)]
    pub(crate) profile: Option<String>,
}
