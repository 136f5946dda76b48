//! How the plugin forgets the variable in which the AWS CLI hands the session over.
//!
//! Every child of this process would inherit it, a `credential_process` for one, and with it the token that opens the session. AWS's plugin
//! unsets it; here that would be unsafe, as other threads may read the environment. So this program starts itself once more
//! without the variable, with what was in it in a pipe: same process id, same terminal, same signals. In `/proc` nothing is
//! left of it either.

use std::convert::Infallible;
use std::env;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, id};

use rustix::io::{dup, ioctl_fionbio};

use super::arguments::RESPONSE_VARIABLE;

/// Says which file is the pipe, and of which process: `PROCESS:FILE`. A child of that one inherits it and has no use for it.
const PIPE_VARIABLE: &str = "SSM_PLUGIN_RESPONSE_PIPE";

/// Longest answer that is read: what a pipe holds.
const LEN_MAX: u64 = 64 * 1024;

/// Starts this program once more if the session is in a variable. `words` are those behind the name of the plugin.
///
/// Returns only if there is no need or no way; the variable is read then.
pub(super) fn leave_variable_behind(words: &[OsString]) {
    let Some(name) = words.first().filter(|_| words.len() >= 3) else { return };
    if !name.to_string_lossy().starts_with(RESPONSE_VARIABLE) || pipe().is_some() {
        return;
    }
    let Some(response) = env::var_os(name) else { return };
    let Err(error) = start_again(name, &response);
    tracing::info!(%error, "children of this process inherit the session");
}

fn start_again(name: &OsString, response: &OsString) -> io::Result<Infallible> {
    let (reader, mut writer) = io::pipe()?;
    // What does not fit must not wait: nobody reads yet.
    ioctl_fionbio(&writer, true)?;
    writer.write_all(response.as_encoded_bytes())?;
    drop(writer);
    // Unlike the reader this one outlives the change of programs.
    let pipe = dup(&reader)?;
    let number = pipe.as_raw_fd();
    File::open(path(number))?;
    let mut words = env::args_os();
    let mut command = Command::new(env::current_exe()?);
    command.arg0(words.next().unwrap_or_default()).args(words);
    command.env_remove(name).env(PIPE_VARIABLE, format!("{}:{number}", id()));
    Err(command.exec())
}

/// What was in the variable.
pub(super) fn response(name: &str) -> Option<String> {
    let Some(number) = pipe() else { return env::var(name).ok() };
    let mut text = String::new();
    File::open(path(number)).ok()?.take(LEN_MAX).read_to_string(&mut text).ok()?;
    Some(text)
}

/// The pipe of this process.
fn pipe() -> Option<i32> {
    let text = env::var(PIPE_VARIABLE).ok()?;
    let (process, number) = text.split_once(':')?;
    if process.parse() == Ok(id()) { number.parse().ok() } else { None }
}

fn path(number: i32) -> String {
    format!("/dev/fd/{number}")
}
