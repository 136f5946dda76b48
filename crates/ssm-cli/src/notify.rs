//! Notifications of the desktop, by the program that the system has for them.

use std::env;
use std::ffi::OsStr;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use crate::output::{Lines, visible};
use crate::process;

/// How long a program may take to show it.
const TIME: Duration = Duration::from_secs(5);

/// Shows notifications. What is not shown is no reason for anything.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Notifier(Tool);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tool {
    /// Of freedesktop.org: Linux and other systems with its desktops.
    NotifySend,
    /// Of macOS.
    OsaScript,
}

impl Notifier {
    /// # Errors
    ///
    /// Where there is no program for it; says so in words.
    pub(crate) fn new() -> Result<Self, String> {
        find(&env::var_os("PATH").unwrap_or_default()).map(Self).ok_or_else(|| {
            "there is nothing to show notifications with: it takes notify-send (libnotify) or osascript (macOS)".into()
        })
    }

    /// Shows it, also when this process ends in the next moment.
    pub(crate) fn show(self, title: &str, text: &str) {
        let mut shown = match self.0.command(title, text).spawn() {
            Ok(shown) => shown,
            Err(error) => return tracing::info!(%error, "the notification was not shown"),
        };
        tokio::spawn(async move {
            match tokio::time::timeout(TIME, shown.wait()).await {
                Ok(Ok(status)) if status.success() => {}
                Ok(ended) => tracing::info!(?ended, "the notification was not shown"),
                // It may have gone by now.
                Err(_elapsed) => drop(shown.start_kill()),
            }
        });
    }
}

impl Tool {
    fn command(self, title: &str, text: &str) -> Command {
        let [title, text] = [title, text].map(|text| visible(text, Lines::Joined).to_string());
        let (program, arguments) = match self {
            Self::NotifySend => {
                ("notify-send", vec!["--app-name=ssm".into(), "--".into(), title, escaped(&text)])
            }
            Self::OsaScript => {
                // As arguments of the script, which then are no part of it.
                let lines = [
                    "on run argv",
                    "display notification (item 2 of argv) with title (item 1 of argv)",
                    "end run",
                ];
                let mut arguments: Vec<String> =
                    lines.into_iter().flat_map(|line| ["-e".to_owned(), line.to_owned()]).collect();
                arguments.extend([title, text]);
                ("osascript", arguments)
            }
        };
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }
}

/// The body of a notification is markup to some desktops.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn find(path: &OsStr) -> Option<Tool> {
    let tools = [("notify-send", Tool::NotifySend), ("osascript", Tool::OsaScript)];
    tools.into_iter().find(|(program, _)| process::find(program, path).is_some()).map(|(_, tool)| tool)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(tool: Tool, text: &str) -> Vec<String> {
        let command = tool.command("ssm: -x", text);
        command.as_std().get_args().map(|argument| argument.to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn a_hostile_reason_is_only_text() {
        let sent = arguments(Tool::NotifySend, "<b>a\n\x1b[2J\" & quit");
        assert_eq!(sent, ["--app-name=ssm", "--", "ssm: -x", "&lt;b&gt;a \\u{1b}[2J\" &amp; quit"]);
        let script = arguments(Tool::OsaScript, "\" & (do shell script \"id\")");
        assert_eq!(script[6..], ["ssm: -x", "\" & (do shell script \"id\")"]);
        assert!(script[..6].iter().all(|line| !line.contains("do shell")), "{script:?}");
    }

    #[test]
    fn the_program_of_the_system_is_found() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(find(folder.path().as_os_str()), None);
        let program = folder.path().join("osascript");
        std::fs::write(&program, "").unwrap();
        assert_eq!(find(folder.path().as_os_str()), None, "it cannot be run");
        std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        assert_eq!(find(folder.path().as_os_str()), Some(Tool::OsaScript));
    }
}
