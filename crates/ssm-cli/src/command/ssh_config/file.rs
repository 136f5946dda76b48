//! A file of the user's that is changed: at once or not at all, and without becoming somebody else's.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use super::block::Mistake;
use crate::error::Error;
use crate::private_file::edit_in_place;

/// Longest file that is changed.
const LEN_MAX: u64 = 8 * 1024 * 1024;

/// What became of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Edited {
    Changed,
    /// It was as it should be, or it is not there and need not be.
    Unchanged,
}

/// Changes a file, or makes it with its folder, for this user alone.
///
/// What is behind links is changed, and the links stay. Mode and owner stay as well.
///
/// # Errors
///
/// When it cannot be read or written, or `change` has an objection. The file is as it was then.
pub(super) fn edit(
    path: &Path,
    change: impl FnOnce(&[u8]) -> Result<Vec<u8>, Mistake>,
) -> Result<Edited, Error> {
    let refused = |why: String| Error::InTheWay(format!("{} is left as it is: {why}", path.display()));
    let (real, found) = match fs::metadata(path) {
        Ok(found) => (fs::canonicalize(path).map_err(|error| refused(error.to_string()))?, Some(found)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if fs::symlink_metadata(path).is_ok() {
                return Err(refused("it is a link that leads nowhere".into()));
            }
            (path.to_owned(), None)
        }
        Err(error) => return Err(refused(error.to_string())),
    };
    let old = match &found {
        Some(found) if !found.is_file() => return Err(refused("it is not a file".into())),
        Some(_) => read(&real).map_err(|error| refused(error.to_string()))?,
        None => Vec::new(),
    };
    let new = change(&old).map_err(|mistake| refused(mistake.to_string()))?;
    if new == old {
        return Ok(Edited::Unchanged);
    }
    edit_in_place(&real, &new, found.as_ref()).map_err(|error| refused(error.to_string()))?;
    Ok(Edited::Changed)
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    File::open(path)?.take(LEN_MAX + 1).read_to_end(&mut text)?;
    if text.len() as u64 > LEN_MAX {
        return Err(io::Error::other("it is longer than 8 MiB"));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

    use super::*;

    fn set(path: &Path, text: &str) -> Result<Edited, String> {
        edit(path, |_| Ok(text.into())).map_err(|error| error.to_string())
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o7777
    }

    #[test]
    fn what_is_made_is_for_this_user_alone() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join(".ssh/config");
        assert_eq!(set(&path, ""), Ok(Edited::Unchanged));
        assert!(!home.path().join(".ssh").exists(), "nothing to write makes no folder");
        assert_eq!(set(&path, "x"), Ok(Edited::Changed));
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
        assert_eq!(set(&path, "x"), Ok(Edited::Unchanged));
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn links_and_modes_stay() {
        let home = tempfile::tempdir().unwrap();
        let (real, middle, link) =
            (home.path().join("dotfiles/config"), home.path().join("middle"), home.path().join("config"));
        fs::create_dir(real.parent().unwrap()).unwrap();
        fs::write(&real, "old").unwrap();
        fs::set_permissions(&real, Permissions::from_mode(0o640)).unwrap();
        symlink("dotfiles/config", &middle).unwrap();
        symlink(&middle, &link).unwrap();
        assert_eq!(set(&link, "new"), Ok(Edited::Changed));
        assert_eq!((fs::read_to_string(&real).unwrap().as_str(), mode(&real)), ("new", 0o640));
        assert!(link.is_symlink() && middle.is_symlink());
    }

    #[test]
    fn what_is_no_file_is_left_alone() {
        let home = tempfile::tempdir().unwrap();
        let (link, loops) = (home.path().join("link"), home.path().join("loop"));
        symlink("nowhere", &link).unwrap();
        symlink("loop", &loops).unwrap();
        assert!(set(&link, "x").unwrap_err().contains("leads nowhere"));
        assert!(set(&loops, "x").is_err());
        assert!(set(home.path(), "x").unwrap_err().contains("not a file"));
        assert!(set(&home.path().join("link/x"), "x").is_err());
        let long = home.path().join("long");
        File::create(&long).unwrap().set_len(LEN_MAX + 1).unwrap();
        assert!(set(&long, "x").unwrap_err().contains("8 MiB"));
        let kept =
            edit(&home.path().join("new"), |_| super::super::block::with(b"# END ssm ssh-config", b""));
        assert!(kept.unwrap_err().to_string().contains("line 1"));
        assert!(!home.path().join("new").exists());
    }
}
