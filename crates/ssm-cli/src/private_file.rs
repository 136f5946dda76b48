//! Files for what a session shows and carries: new ones, for this user alone.

use std::fs::{File, OpenOptions};
use std::io;
#[cfg(unix)]
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use crate::error::Error;

/// Makes it. What is there already is left alone: others may be able to read it.
///
/// # Errors
///
/// When it cannot be made.
pub(crate) fn create(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    options.mode(0o600);
    options.open(path)
}

/// Why it cannot be made, and what can be done.
pub(crate) fn refusal(path: &Path, error: &io::Error) -> Error {
    let path = path.display();
    Error::Usage(match error.kind() {
        io::ErrorKind::AlreadyExists => format!("{path} exists already: remove it, or take another name"),
        _ => format!("cannot write to {path}: {error}"),
    })
}
