//! Folders of this program: for what lives as long as the machine runs, and for what is kept.

use std::fs::{self, DirBuilder, Metadata};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use directories::{BaseDirs, ProjectDirs};
use rustix::process::geteuid;

/// What others may not have in the mode of a private folder.
const OTHERS: u32 = 0o077;

/// For sockets: `$XDG_RUNTIME_DIR/ssm`, or `ssm-UID` among the temporary files where that is not set or somebody else's, as
/// it is under sudo. Made when it is not there.
///
/// # Errors
///
/// When what is there is not a folder that only this user can use: in a folder for everybody it may be a trap.
pub(crate) fn runtime_folder() -> io::Result<PathBuf> {
    let base = BaseDirs::new();
    let runtime = base.as_ref().and_then(BaseDirs::runtime_dir);
    let folder = match runtime.filter(|folder| fs::metadata(folder).is_ok_and(|found| is_own(&found))) {
        Some(folder) => folder.join("ssm"),
        None => temporary().join(format!("ssm-{}", geteuid().as_raw())),
    };
    private(&folder)?;
    Ok(folder)
}

/// For logs: `$XDG_STATE_HOME/ssm`, which is `~/.local/state/ssm` unless set, or the system's own place. Made when it is not there.
///
/// # Errors
///
/// As [`runtime_folder`].
pub(crate) fn state_folder() -> io::Result<PathBuf> {
    let Some(project) = project() else { return runtime_folder() };
    let folder = project.state_dir().unwrap_or_else(|| project.data_local_dir());
    if let Some(parent) = folder.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
    }
    private(folder)?;
    Ok(folder.to_owned())
}

/// For sessions that were started and not ended: a folder in the [`state_folder`]. Made when it is not there.
///
/// # Errors
///
/// As [`runtime_folder`].
#[cfg(feature = "aws")]
pub(crate) fn sessions_folder() -> io::Result<PathBuf> {
    let folder = state_folder()?.join("sessions");
    private(&folder)?;
    Ok(folder)
}

/// For what can be found out again: `$XDG_CACHE_HOME/ssm`, which is `~/.cache/ssm` unless set, or the system's own place. Made when it
/// is not there.
///
/// # Errors
///
/// As [`runtime_folder`], and for a user without a home.
#[cfg(feature = "lookup")]
pub(crate) fn cache_folder() -> io::Result<PathBuf> {
    let project =
        project().ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "there is no home folder"))?;
    let folder = project.cache_dir();
    if let Some(parent) = folder.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
    }
    private(folder)?;
    Ok(folder.to_owned())
}

/// The configuration: `$XDG_CONFIG_HOME/ssm/config.toml`, which is `~/.config/ssm/config.toml` unless set, or the system's own
/// place. `None` for a user without a home.
pub(crate) fn config_file() -> Option<PathBuf> {
    Some(project()?.config_dir().join("config.toml"))
}

/// The folders of a user who has a home. One that is relative is none: it would be another one in each folder, and somebody else's in
/// some.
fn project() -> Option<ProjectDirs> {
    ProjectDirs::from("", "", "ssm").filter(|project| {
        [project.config_dir(), project.cache_dir(), project.data_local_dir()]
            .iter()
            .all(|folder| folder.is_absolute())
    })
}

/// The folder of temporary files, wherever a relative `TMPDIR` would be.
fn temporary() -> PathBuf {
    Some(std::env::temp_dir()).filter(|folder| folder.is_absolute()).unwrap_or_else(|| "/tmp".into())
}

/// Makes a folder for this user alone, or makes sure that it is one.
fn private(folder: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(named(folder, &error)),
        _ => {}
    }
    let found = fs::symlink_metadata(folder).map_err(|error| named(folder, &error))?;
    let wrong = if !found.is_dir() {
        "is not a folder"
    } else if !is_own(&found) {
        "belongs to somebody else"
    } else if found.mode() & OTHERS != 0 {
        "is open to others; close it with chmod 700"
    } else {
        return Ok(());
    };
    Err(io::Error::new(io::ErrorKind::PermissionDenied, format!("{} {wrong}", folder.display())))
}

fn is_own(found: &Metadata) -> bool {
    found.uid() == geteuid().as_raw()
}

fn named(folder: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", folder.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn a_new_folder_is_for_this_user_alone() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("ssm");
        private(&folder).unwrap();
        assert_eq!(folder.metadata().unwrap().mode() & 0o777, 0o700);
        private(&folder).unwrap();
    }

    #[test]
    fn a_trap_is_refused() {
        let parent = tempfile::tempdir().unwrap();
        let (real, link, file) =
            (parent.path().join("real"), parent.path().join("link"), parent.path().join("file"));
        private(&real).unwrap();
        symlink(&real, &link).unwrap();
        fs::write(&file, "").unwrap();
        let refused = |folder: &Path| private(folder).unwrap_err().to_string();
        assert!(refused(&link).ends_with("link is not a folder"), "{}", refused(&link));
        assert!(refused(&file).ends_with("file is not a folder"), "{}", refused(&file));
        fs::set_permissions(&real, fs::Permissions::from_mode(0o750)).unwrap();
        assert!(refused(&real).contains("chmod 700"), "{}", refused(&real));
    }
}
