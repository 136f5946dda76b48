//! Files for what a session shows and carries: new ones, for this user alone.

#[cfg(feature = "aws")]
use std::fs;
use std::fs::{File, OpenOptions};
use std::io;
#[cfg(feature = "aws")]
use std::io::{Read as _, Write as _};
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

/// What a file of ours has, up to `max` bytes of it.
///
/// # Errors
///
/// When it cannot be read, and when something else is there: a pipe would be waited for.
#[cfg(feature = "aws")]
pub(crate) fn read(path: &Path, max: u64) -> io::Result<Vec<u8>> {
    if !fs::metadata(path)?.is_file() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(max).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Puts a text in place of what a file of ours has, in one step: whoever reads it finds the old or the new one.
///
/// # Errors
///
/// When it cannot be written; the old one stays.
#[cfg(feature = "aws")]
pub(crate) fn replace(path: &Path, text: &[u8]) -> io::Result<()> {
    let new = path.with_extension(format!("{}.new", std::process::id()));
    // Left behind by a process of the same number, if by any.
    let _ = fs::remove_file(&new);
    let written =
        create(&new).and_then(|mut file| file.write_all(text)).and_then(|()| fs::rename(&new, path));
    if written.is_err() {
        let _ = fs::remove_file(&new);
    }
    written
}

/// Why it cannot be made, and what can be done.
pub(crate) fn refusal(path: &Path, error: &io::Error) -> Error {
    let path = path.display();
    Error::Usage(match error.kind() {
        io::ErrorKind::AlreadyExists => format!("{path} exists already: remove it, or take another name"),
        _ => format!("cannot write to {path}: {error}"),
    })
}

#[cfg(all(test, feature = "aws"))]
mod tests {
    use super::*;

    #[test]
    fn what_is_replaced_is_for_this_user_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file.json");
        fs::write(&path, "old").unwrap();
        replace(&path, b"new").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
        #[cfg(unix)]
        assert_eq!(
            std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&path).unwrap().permissions()) & 0o777,
            0o600
        );
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn what_cannot_be_replaced_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file.json");
        fs::create_dir(&path).unwrap();
        replace(&path, b"new").unwrap_err();
        assert!(path.is_dir());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");
    }
}
