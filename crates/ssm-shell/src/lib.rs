//! Terminal sessions over Session Manager: raw mode, window size, input and output.
//!
//! [`run`] takes a [`Session`](ssm_session::Session) of a shell or a command and drives it until it ends. Where the bytes
//! come from and go to is an [`Io`]: this process' own streams, terminal or not ([`Io::stdio`]), or any others
//! ([`Io::streams`]). Nothing is printed by this crate; what there is to tell is a [`Notice`] or in the [`Exit`].
//!
//! Bytes go through unchanged in both directions. On a terminal that means raw mode, so that Ctrl-C, Ctrl-Z and Ctrl-\
//! act on the remote side; the terminal is restored on every way out: the end of the session, an error, a signal, a dropped
//! future and, with [`install_panic_hook`], a panic.
//!
//! ```no_run
//! use ssm_session::{Config, Endpoint, Session};
//! use ssm_shell::{Io, Notice, NoticeWriter};
//! use std::io::Write;
//!
//! # async fn example(endpoint: Endpoint) -> Result<(), Box<dyn std::error::Error>> {
//! ssm_shell::install_panic_hook();
//! let session = Session::attach(endpoint, Config::default()).await?;
//! let exit = ssm_shell::run(session, Io::stdio()?, |notice| {
//!     if let Notice::Redial { attempt: 1, .. } = notice {
//!         let _ = writeln!(NoticeWriter, "connection lost, reconnecting");
//!     }
//! })
//! .await?;
//! eprintln!("{:?}", exit.reason);
//! # Ok(())
//! # }
//! ```
//!
//! [`exec`] runs a [`Command`] with its streams apart and its exit code, as `ssh` does, in a session that has neither.
//!
//! # Escapes
//!
//! On a terminal, `~` at the start of a line is for this side: an [`Escape`]. What is typed is read ahead for that, so that one is
//! found while nothing can be sent. Streams have escapes when [`Io::escapes`] says so.
//!
//! # Input that is not a terminal
//!
//! A pipe or a file ends, a terminal does not. When such an input has ended, the remote side is told by the character that
//! means it on a terminal, `0x04` (Ctrl-D), at the start of a line; a carriage return goes before it when the input did not
//! end with one or with a newline. The terminal over there may swallow it: a line editor that takes over while it is queued
//! sees a NUL. So it is sent again whenever the remote side has been quiet for a while (250 ms, doubling up to 30 s): whoever
//! reads next finds the end of input, as behind a real pipe. Output goes on being written until the session ends. PowerShell
//! does not know this character; end input for Windows nodes with `exit`.
//!
//! A command without a terminal (`NonInteractiveCommands`) takes no input but signals (agent `shell_unix.go`): its standard
//! input is not read.

mod alarm;
mod command;
mod console;
mod controls;
mod end_of_input;
mod error;
mod escape;
mod exit;
mod io;
mod notice;
mod outputs;
mod recording;
mod resize;
mod screen;
mod shell;
mod sink;
mod typed;

#[cfg(any(windows, test))]
mod keys;
#[cfg(unix)]
mod reader;
#[cfg(unix)]
mod signals;
#[cfg(unix)]
mod terminal;
#[cfg(windows)]
mod windows;
#[cfg(any(unix, windows))]
mod writer;

pub use command::{Command, CommandError, CommandIo, Completed, ExecError, Signal, exec};
pub use controls::Controls;
pub use error::ShellError;
pub use escape::Escape;
pub use exit::{EndedBy, Exit};
pub use io::Io;
#[cfg(any(unix, windows))]
pub use notice::NoticeWriter;
pub use notice::{Notice, Question, Statistics};
pub use recording::Recording;
pub use shell::run;
#[cfg(unix)]
pub use terminal::{RawMode, restore_terminal};
#[cfg(windows)]
pub use windows::{RawMode, restore_terminal};

#[cfg(unix)]
use terminal::is_raw;
#[cfg(windows)]
use windows::is_raw;

/// Makes a panic restore the terminal before it prints its message, also one that aborts. To be called once, at start.
#[cfg(any(unix, windows))]
pub fn install_panic_hook() {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        restore_terminal();
        print(info);
    }));
}
