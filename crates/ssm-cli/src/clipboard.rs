//! The clipboard, by the program that the system has for it. What is copied goes through its stdin, never into its arguments.

use std::env;
use std::ffi::OsString;
use std::io;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::process;

/// How long a program may take to take what it is given.
const TIME: Duration = Duration::from_secs(5);

/// A program, and the variable without which it has no clipboard to copy to.
struct Tool {
    program: &'static str,
    arguments: &'static [&'static str],
    display: Option<&'static str>,
}

/// The first that can be used is.
const TOOLS: [Tool; 5] = [
    Tool { program: "wl-copy", arguments: &[], display: Some("WAYLAND_DISPLAY") },
    Tool { program: "xclip", arguments: &["-selection", "clipboard"], display: Some("DISPLAY") },
    Tool { program: "xsel", arguments: &["--clipboard", "--input"], display: Some("DISPLAY") },
    Tool { program: "pbcopy", arguments: &[], display: None },
    Tool { program: "clip.exe", arguments: &[], display: None },
];

/// Puts a text into the clipboard.
///
/// # Errors
///
/// When there is no clipboard, or its program fails; says so in words.
pub(crate) async fn copy(text: &str) -> Result<(), String> {
    let set = |name: &str| env::var_os(name).is_some_and(|value| !value.is_empty());
    let Some(tool) = find(set, &env::var_os("PATH").unwrap_or_default()) else {
        return Err("there is no clipboard here: it takes wl-copy under Wayland, xclip or xsel under X11, pbcopy on macOS, \
                    or clip.exe on Windows"
            .into());
    };
    let ended = tokio::time::timeout(TIME, run(tool, text)).await;
    let failed = |why: String| Err(format!("{} did not take it: {why}", tool.program));
    match ended {
        Ok(Ok(status)) if status.success() => Ok(()),
        Ok(Ok(status)) => failed(status.to_string()),
        Ok(Err(error)) => failed(error.to_string()),
        Err(_elapsed) => failed(format!("not within {} s", TIME.as_secs())),
    }
}

async fn run(tool: &Tool, text: &str) -> io::Result<std::process::ExitStatus> {
    // Those of X11 and Wayland stay behind with what they were given; a pipe of ours would stay with them.
    let mut child = Command::new(tool.program)
        .args(tool.arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    let mut stdin = child.stdin.take().expect("it was asked for");
    stdin.write_all(text.as_bytes()).await?;
    drop(stdin);
    child.wait().await
}

fn find(is_set: impl Fn(&str) -> bool, path: &OsString) -> Option<&'static Tool> {
    TOOLS.iter().find(|tool| tool.display.is_none_or(&is_set) && process::find(tool.program, path).is_some())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_clipboard_of_the_display_is_used() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().as_os_str().to_owned();
        let found = |display: &str| find(|name| name == display, &path).map(|tool| tool.program);
        assert_eq!(found("DISPLAY"), None);
        let install = |program: &str| {
            let path = folder.path().join(program);
            fs::write(&path, "").unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        };
        ["wl-copy", "xsel"].into_iter().for_each(install);
        assert_eq!(found("WAYLAND_DISPLAY"), Some("wl-copy"));
        assert_eq!(found("DISPLAY"), Some("xsel"));
        assert_eq!(found(""), None, "neither can be used without a display");
        install("clip.exe");
        assert_eq!(found(""), Some("clip.exe"));
    }
}
