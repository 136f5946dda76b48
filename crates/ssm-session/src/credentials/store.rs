//! Folders of JSON that the AWS CLI and its SDKs have in the home folder: a file for each thing, named by the SHA-1 of what it is
//! for. Whoever asks next, this program or one of theirs, finds what is there.

use std::fmt::Write as _;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write as _};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::PathBuf;
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::SystemTime;

use aws_smithy_types::DateTime;
use aws_smithy_types::date_time::Format;
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use serde::Serialize;
use serde::de::DeserializeOwned;
use ssm_proto::Secret;

/// Longest file that is read: what is kept has some kilobytes.
const LEN_MAX: u64 = 256 * 1024;

/// One of the folders.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    folder: PathBuf,
}

impl Store {
    /// Tokens of single sign-ons (botocore `tokens.py`, CLI version 2 `customizations/sso`). `None` for a user without a home.
    pub(crate) fn sign_ons() -> Option<Self> {
        Self::at("sso/cache")
    }

    /// Credentials of roles (CLI `customizations/assumerole.py`). `None` for a user without a home.
    pub(crate) fn roles() -> Option<Self> {
        Self::at("cli/cache")
    }

    fn at(folder: &str) -> Option<Self> {
        let home = std::env::home_dir().filter(|home| !home.as_os_str().is_empty())?;
        Some(Self { folder: home.join(".aws").join(folder) })
    }

    /// What is kept for `key`. What cannot be read is not there.
    pub(crate) fn read<T: DeserializeOwned>(&self, key: &str) -> Option<T> {
        let path = self.path(key);
        let mut text = Secret::new(Vec::new());
        // A pipe would be waited for.
        fs::metadata(&path).ok().filter(fs::Metadata::is_file)?;
        File::open(&path).ok()?.take(LEN_MAX).read_to_end(text.expose_mut()).ok()?;
        match serde_json::from_slice(text.expose()) {
            Ok(value) => Some(value),
            Err(error) => {
                tracing::debug!(path = %path.display(), line = error.line(), "what is kept there is not used");
                None
            }
        }
    }

    /// Keeps `value` for `key`, for this user alone. Whoever reads meanwhile gets the old or the new one, whole.
    ///
    /// # Errors
    ///
    /// When the file cannot be written.
    pub(crate) fn write(&self, key: &str, value: &impl Serialize) -> io::Result<()> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let text = Secret::new(serde_json::to_vec(value)?);
        DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let fresh = self.folder.join(format!("ssm-{}-{count}.tmp", process::id()));
        // One of a process that had this number before and was killed.
        let _ = fs::remove_file(&fresh);
        let write = || {
            let mut file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(&fresh)?;
            file.write_all(text.expose())?;
            file.sync_all()?;
            fs::rename(&fresh, self.path(key))
        };
        let written = write();
        if written.is_err() {
            let _ = fs::remove_file(&fresh);
        }
        written
    }

    /// Keeps nothing for `key`. Whether there was something.
    ///
    /// # Errors
    ///
    /// When the file is there and cannot be removed.
    pub(crate) fn remove(&self, key: &str) -> io::Result<bool> {
        match fs::remove_file(self.path(key)) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn path(&self, key: &str) -> PathBuf {
        self.folder.join(format!("{}.json", sha1(key)))
    }
}

/// The SHA-1 of a text in hexadecimal.
fn sha1(text: &str) -> String {
    let digest = digest(&SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes());
    digest.as_ref().iter().fold(String::new(), |mut hex, byte| {
        // Writing to memory does not fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// A time as these files have it: `2026-11-28T12:00:00Z`, in whole seconds.
pub(crate) fn written_time(time: SystemTime) -> String {
    let seconds = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let time = DateTime::from_secs(i64::try_from(seconds).unwrap_or(i64::MAX));
    time.fmt(Format::DateTime).unwrap_or_default()
}

/// The time that is written there: in UTC, as `Z`, `UTC` or `+00:00`, or with another offset.
pub(crate) fn read_time(text: &str) -> Option<SystemTime> {
    let text = text.strip_suffix("UTC").map_or_else(|| text.to_owned(), |time| format!("{time}Z"));
    let time = DateTime::from_str(&text, Format::DateTimeWithOffset).ok()?;
    SystemTime::try_from(time).ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::time::Duration;

    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn what_is_kept_is_for_this_user_alone() {
        let home = tempfile::tempdir().unwrap();
        let store = Store { folder: home.path().join("a/b") };
        assert_eq!(store.read::<Value>("corp"), None);
        store.write("corp", &json!({ "a": 1 })).unwrap();
        store.write("corp", &json!({ "a": 2 })).unwrap();
        assert_eq!(store.read("corp"), Some(json!({ "a": 2 })));
        // `printf corp | sha1sum`
        let path = store.folder.join("ee0bfd2552fbd840c02cc48b6e823320543c450f.json");
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(store.folder.metadata().unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(fs::read_dir(&store.folder).unwrap().count(), 1);
        assert_eq!((store.remove("corp").unwrap(), store.remove("corp").unwrap()), (true, false));
    }

    #[test]
    fn what_makes_no_sense_is_not_there() {
        let home = tempfile::tempdir().unwrap();
        let store = Store { folder: home.path().into() };
        fs::write(store.path("corp"), "{").unwrap();
        assert_eq!(store.read::<Value>("corp"), None);
        fs::write(store.path("corp"), vec![b'['; 1 << 20]).unwrap();
        assert_eq!(store.read::<Value>("corp"), None);
    }

    #[test]
    fn times_of_every_spelling_are_read() {
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_575_914_924);
        assert_eq!(written_time(time + Duration::from_millis(900)), "2019-12-09T18:08:44Z");
        for text in [
            "2019-12-09T18:08:44Z",
            "2019-12-09T18:08:44UTC",
            "2019-12-09T18:08:44+00:00",
            "2019-12-09T20:08:44+02:00",
        ] {
            assert_eq!(read_time(text), Some(time), "{text}");
        }
        for text in ["", "tomorrow", "2019-12-09"] {
            assert_eq!(read_time(text), None, "{text}");
        }
    }
}
