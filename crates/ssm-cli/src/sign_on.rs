//! Signing on: as a command, and in the course of another one that finds out that it is needed.

use std::env;
use std::process::{Command, Stdio};
use std::time::SystemTime;

use ssm_session::{
    AwsControl, AwsOptions, CodePrompt, CodeRequest, ControlErrorKind, ControlPlane as _, SignOn,
};

use crate::args::ConnectionArgs;
use crate::ask;
use crate::error::Error;
use crate::options;
use crate::output::{complain, say};

/// Who opens the page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Browser {
    /// This program, where there is a desktop.
    Here,
    /// The user.
    User,
}

/// Goes through all of it: shows the page, opens it, waits.
pub(crate) async fn run(sign_on: &SignOn, options: &AwsOptions, browser: Browser) -> Result<(), Error> {
    let login = sign_on.begin(options).await.map_err(Error::Account)?;
    // Also with --quiet: without it nothing goes on.
    complain(format_args!(
        "to sign on with {}, open {} and see that it shows the code {}",
        sign_on.name(),
        login.url,
        login.code
    ));
    if browser == Browser::Here {
        open(&login.url);
    }
    let until = login.finish().await.map_err(Error::Account)?;
    say(format_args!("signed on with {} for {}", sign_on.name(), Left::until(until)));
    Ok(())
}

/// Finds out whether the credentials of an account are to be had; offers to sign on where that is what is missing and somebody
/// can be asked.
pub(crate) async fn offer(
    account: &AwsControl,
    connection: &ConnectionArgs,
    options: &AwsOptions,
) -> Result<(), Error> {
    if !ask::can_ask() {
        return Ok(());
    }
    let of_profile = SignOn::of_profile(connection.profile.as_deref()).await;
    let Ok(Some(sign_on)) = of_profile else { return Ok(()) };
    // Asked for now in place of with the first call; they are kept in memory.
    let Err(error) = account.identity().await else { return Ok(()) };
    if error.kind() != ControlErrorKind::SignOn {
        return Err(Error::Account(error));
    }
    let question =
        format!("the single sign-on with {} is over, or was never begun; sign on?", sign_on.name());
    if !ask::yes(&question).await {
        return Err(Error::Account(error));
    }
    run(&sign_on, options, Browser::Here).await
}

/// Sees to it that credentials are there before a process goes to the background, where nobody can be asked: signs on, and asks
/// for a code. What goes wrong is for that process to tell.
pub(crate) async fn prepare(connection: &ConnectionArgs) {
    if connection.attach || !ask::can_ask() {
        return;
    }
    if let Ok(account) = options::account(connection).await {
        let _ = account.identity().await;
    }
}

/// Asks for codes of a second factor on the terminal.
pub(crate) fn code_prompt() -> CodePrompt {
    CodePrompt::new(|request: CodeRequest| async move {
        if request.again {
            complain("that code was not taken; each code is good once, and for half a minute");
        }
        ask::secret(&format!("ssm: code of {} for {}:", request.device, request.role)).await
    })
}

/// Opens a page and does not wait for it.
fn open(url: &str) {
    // It comes from the service: no file, no program, no flag.
    let is_page =
        ["https://", "http://127.0.0.1:", "http://localhost:"].iter().any(|start| url.starts_with(start));
    let Some(program) = opener().filter(|_| is_page) else { return };
    let mut command = Command::new(program);
    command.arg(url).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    // Ctrl-C here is not meant for the browser.
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    match command.spawn() {
        // Somebody has to ask how it ended.
        Ok(mut child) => drop(std::thread::spawn(move || child.wait())),
        Err(error) => tracing::info!(program, %error, "no browser"),
    }
}

/// What opens pages on this desktop, if there is one in front of the user.
fn opener() -> Option<&'static str> {
    let is_set = |name: &str| env::var_os(name).is_some_and(|value| !value.is_empty());
    if is_set("SSH_CONNECTION") || is_set("SSH_TTY") {
        return None;
    }
    if cfg!(target_os = "macos") {
        return Some("open");
    }
    (is_set("DISPLAY") || is_set("WAYLAND_DISPLAY")).then_some("xdg-open")
}

/// A time from now for a person.
pub(crate) struct Left {
    minutes: u64,
}

impl Left {
    pub(crate) fn until(time: SystemTime) -> Self {
        let left = time.duration_since(SystemTime::now()).unwrap_or_default();
        Self { minutes: left.as_secs().div_ceil(60) }
    }
}

impl std::fmt::Display for Left {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.minutes / 60, self.minutes % 60) {
            (0, minutes) => write!(f, "{minutes} min"),
            (hours, 0) => write!(f, "{hours} h"),
            (hours, minutes) => write!(f, "{hours} h {minutes} min"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_for_people() {
        let told = |minutes| Left { minutes }.to_string();
        assert_eq!([told(0), told(59), told(480), told(481)], ["0 min", "59 min", "8 h", "8 h 1 min"]);
    }
}
