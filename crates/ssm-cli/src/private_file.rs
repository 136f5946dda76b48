//! Files for this user alone: what a session shows and carries, what is remembered, and those of the user's that are changed.

use std::fs::{self, DirBuilder, File, Metadata, OpenOptions, Permissions};
#[cfg(feature = "aws")]
use std::io::Read as _;
use std::io::{self, Write as _};
use std::os::unix::fs::{
    DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown,
};
use std::path::{Path, PathBuf};

use crate::error::Error;

/// Makes it. What is there already is left alone: others may be able to read it.
///
/// # Errors
///
/// When it cannot be made.
pub(crate) fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
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

/// Changes a file of the user's, or makes it with its folder, for this user alone. It is written beside it and renamed, so that whoever
/// reads has all of the old or all of the new; owner and mode are those of `found`, what there was.
///
/// # Errors
///
/// When it cannot be written; it is as it was then.
pub(crate) fn edit_in_place(path: &Path, text: &[u8], found: Option<&Metadata>) -> io::Result<()> {
    let folder =
        path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    if found.is_none() {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    let (beside, mut file) = beside(path)?;
    let written = (|| {
        if let Some(found) = found {
            if file.metadata()?.uid() != found.uid() || file.metadata()?.gid() != found.gid() {
                fchown(&file, Some(found.uid()), Some(found.gid()))?;
            }
            file.set_permissions(Permissions::from_mode(found.mode() & 0o7777))?;
        }
        file.write_all(text)?;
        file.sync_all()?;
        fs::rename(&beside, path)
    })();
    if written.is_err() {
        let _ = fs::remove_file(&beside);
    }
    written
}

/// A new file in the same folder, for this user alone.
fn beside(path: &Path) -> io::Result<(PathBuf, File)> {
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(io::Error::other)?;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{:016x}", u64::from_ne_bytes(random)));
    let beside = path.with_file_name(name);
    let file = create(&beside)?;
    Ok((beside, file))
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
