//! [`CacheFile`]: a [`Cache`] on disk.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use crate::Cache;

/// Longest file that is read, in bytes. A full cache of ordinary names is a quarter of it.
pub const MAX_CACHE_FILE_LEN: u64 = 1024 * 1024;

/// Where a [`Cache`] is kept between runs. Several processes may use the same file: each save replaces the whole, and the last
/// one counts.
#[derive(Debug, Clone)]
pub struct CacheFile {
    path: PathBuf,
}

impl CacheFile {
    /// The cache in this file, which need not exist.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the file. One that is absent, unreadable, too long or damaged is an empty cache, and so is what is no file.
    pub fn load(&self) -> Cache {
        let mut json = Vec::new();
        // A pipe would be waited for.
        if !fs::metadata(&self.path).is_ok_and(|found| found.is_file()) {
            return Cache::default();
        }
        let read =
            File::open(&self.path).and_then(|file| file.take(MAX_CACHE_FILE_LEN + 1).read_to_end(&mut json));
        match read {
            Ok(_) if json.len() as u64 <= MAX_CACHE_FILE_LEN => Cache::from_json(&json),
            _ => Cache::default(),
        }
    }

    /// Writes the file, for its owner alone, and its folder if there is none. A reader sees the old file or the new one.
    ///
    /// # Errors
    ///
    /// What the system says. The old file is then as it was.
    pub fn save(&self, cache: &Cache) -> io::Result<()> {
        if let Some(folder) = self.path.parent() {
            create_folder(folder)?;
        }
        let new = self.path.with_extension(format!("{}.new", std::process::id()));
        // What a process of the same id has left behind.
        match fs::remove_file(&new) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = private(OpenOptions::new().write(true).create_new(true)).open(&new)?;
        let written = file.write_all(cache.to_json().as_bytes()).and_then(|()| fs::rename(&new, &self.path));
        if written.is_err() {
            // The first failure is the one to tell.
            let _ = fs::remove_file(&new);
        }
        written
    }
}

#[cfg(unix)]
fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600)
}

#[cfg(not(unix))]
fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    options
}

#[cfg(unix)]
fn create_folder(folder: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

#[cfg(not(unix))]
fn create_folder(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::{Resolved, SessionTarget};

    #[test]
    fn what_was_saved_is_loaded() {
        let folder = tempfile::tempdir().unwrap();
        let file = CacheFile::new(folder.path().join("ssm/targets.json"));
        assert_eq!(file.load(), Cache::default());
        file.save(&cache()).unwrap();
        assert_eq!(file.load(), cache());
        file.save(&Cache::default()).unwrap();
        assert_eq!(file.load(), Cache::default());
        assert_eq!(fs::read_dir(folder.path().join("ssm")).unwrap().count(), 1, "nothing is left behind");
    }

    #[cfg(unix)]
    #[test]
    fn nobody_else_can_read_it() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let file = CacheFile::new(folder.path().join("ssm/targets.json"));
        file.save(&cache()).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(file.path()), 0o600);
        assert_eq!(mode(&folder.path().join("ssm")), 0o700);
    }

    #[test]
    fn a_damaged_or_endless_file_is_an_empty_cache() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("targets.json");
        let file = CacheFile::new(&path);
        let json = cache().to_json();
        let padded = json.clone() + &" ".repeat(MAX_CACHE_FILE_LEN as usize);
        for text in [&json[..json.len() - 1], "", "\0", &padded] {
            fs::write(&path, text).unwrap();
            assert_eq!(file.load(), Cache::default());
        }
        assert_eq!(CacheFile::new("/dev/zero").load(), Cache::default());
        assert_eq!(CacheFile::new(folder.path()).load(), Cache::default());
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("ssm"), "").unwrap();
        assert!(CacheFile::new(folder.path().join("ssm/targets.json")).save(&cache()).is_err());
    }

    fn cache() -> Cache {
        let id: SessionTarget = "i-01234567".parse().unwrap();
        let resolved = Resolved { found: id.into(), step: None };
        let mut cache = Cache::default();
        cache.insert("", &"web".parse().unwrap(), &resolved, SystemTime::UNIX_EPOCH, Duration::from_secs(1));
        cache
    }
}
