//! A terminal that a test types into and reads: a tmux server of its own, with one pane.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use tempfile::TempDir;

use super::process::SOON;

pub(crate) struct Tmux {
    socket: PathBuf,
    folder: TempDir,
}

impl Tmux {
    /// A terminal of this size in which `sh` runs, with the environment of `command`, in `folder`.
    pub(crate) fn start(environment: &Command, folder: &Path, (cols, rows): (u16, u16)) -> Self {
        let own = TempDir::new().unwrap();
        let tmux = Self { socket: own.path().join("tmux"), folder: own };
        let mut start = tmux.command();
        for (name, value) in environment.get_envs() {
            match value {
                Some(value) => start.env(name, value),
                None => start.env_remove(name),
            };
        }
        let size = [cols.to_string(), rows.to_string()];
        start.args([
            "-f",
            "/dev/null",
            "set-option",
            "-g",
            "history-limit",
            "50000",
            ";",
            "new-session",
            "-d",
            "-x",
            &size[0],
            "-y",
            &size[1],
        ]);
        start.arg("-c").arg(folder).env_remove("TMUX");
        // sh reads this first; for root it would take no prompt from the environment.
        let rc = tmux.folder.path().join("rc");
        std::fs::write(&rc, "PS1='local$ '\n").unwrap();
        start.env("ENV", rc);
        tmux.run(start.args(["sh"]));
        tmux.tell(&["set-option", "-g", "status", "off"]);
        tmux.until("the prompt", |screen| screen.contains("local$"));
        tmux
    }

    /// Types a line and presses Enter.
    pub(crate) fn line(&self, text: &str) {
        self.text(text);
        self.key("Enter");
    }

    /// Types without pressing Enter.
    pub(crate) fn text(&self, text: &str) {
        self.tell(&["send-keys", "-l", "--", text]);
    }

    /// Presses a key by tmux's name for it, `C-c` for one.
    pub(crate) fn key(&self, name: &str) {
        self.tell(&["send-keys", name]);
    }

    /// Pastes the text in `file` as a terminal does, all at once.
    pub(crate) fn paste(&self, file: &Path) {
        self.tell(&["load-buffer", file.to_str().unwrap()]);
        self.tell(&["paste-buffer"]);
    }

    /// The same with marks around it, if the program has asked for them.
    pub(crate) fn paste_marked(&self, file: &Path) {
        self.tell(&["load-buffer", file.to_str().unwrap()]);
        self.tell(&["paste-buffer", "-p"]);
    }

    /// Types bytes that are no keys of tmux.
    pub(crate) fn keys_as_bytes(&self, bytes: &str) {
        let hex: Vec<String> = bytes.bytes().map(|byte| format!("{byte:02x}")).collect();
        let words: Vec<&str> =
            ["send-keys", "-H"].into_iter().chain(hex.iter().map(String::as_str)).collect();
        self.tell(&words);
    }

    /// A flag of the pane, 0 or 1.
    pub(crate) fn flag(&self, name: &str) -> String {
        self.tell(&["display-message", "-p", &format!("#{{{name}}}")]).trim().to_owned()
    }

    pub(crate) fn resize(&self, (cols, rows): (u16, u16)) {
        self.tell(&["resize-window", "-x", &cols.to_string(), "-y", &rows.to_string()]);
    }

    /// What the screen shows.
    pub(crate) fn screen(&self) -> String {
        self.tell(&["capture-pane", "-p"])
    }

    /// What the screen shows and what scrolled off it, with wrapped lines joined.
    pub(crate) fn history(&self) -> String {
        self.tell(&["capture-pane", "-p", "-J", "-S", "-"])
    }

    /// Waits until the screen is as it should be.
    pub(crate) fn until(&self, what: &str, done: impl Fn(&str) -> bool) -> String {
        let deadline = Instant::now() + SOON;
        loop {
            let screen = self.screen();
            if done(&screen) {
                return screen;
            }
            assert!(Instant::now() < deadline, "the screen does not show {what}:\n{screen}");
        }
    }

    /// Waits until a line of the screen is exactly `line`, which a command echoed while it is typed is not.
    pub(crate) fn until_line(&self, line: &str) -> String {
        self.until(line, |screen| screen.lines().any(|shown| shown.trim_end() == line))
    }

    /// The process that the terminal was started with.
    pub(crate) fn pane_pid(&self) -> u32 {
        self.tell(&["display-message", "-p", "#{pane_pid}"]).trim().parse().unwrap()
    }

    /// Whether the program in the pane has switched to the other screen, as full-screen programs do.
    pub(crate) fn alternate(&self) -> bool {
        self.tell(&["display-message", "-p", "#{alternate_on}"]).trim() == "1"
    }

    /// Whether the cursor is shown.
    pub(crate) fn cursor(&self) -> bool {
        self.tell(&["display-message", "-p", "#{cursor_flag}"]).trim() == "1"
    }

    fn tell(&self, args: &[&str]) -> String {
        self.run(self.command().args(args))
    }

    fn command(&self) -> Command {
        let mut tmux = Command::new("tmux");
        tmux.arg("-S").arg(&self.socket).stdin(Stdio::null());
        tmux
    }

    fn run(&self, command: &mut Command) -> String {
        let output = match command.output() {
            Ok(output) => output,
            Err(error) => panic!("tmux: {error}: run cargo xtask test"),
        };
        assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

impl Drop for Tmux {
    fn drop(&mut self) {
        let _ = self.command().arg("kill-server").output();
    }
}
