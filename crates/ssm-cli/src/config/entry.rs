//! Entries that this program adds to the file, at its end: what somebody has written above stays as it is.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use toml::Value;

use super::{Config, ConfigError, File, is_absent, read};
use crate::error::Error;
use crate::private_file::edit_in_place;

impl Config {
    /// # Errors
    ///
    /// When there is a `[db.NAME]`.
    pub(crate) fn has_room_for(&self, name: &str) -> Result<(), Error> {
        is_free(&self.file, self.path.as_deref().unwrap_or_else(|| Path::new("")), name)
    }

    /// Adds `[db.NAME]` with these keys, and says where. The folder is made if it is not there.
    ///
    /// # Errors
    ///
    /// When there is such an entry or something is wrong with its name, and when the file cannot be read or written, which then is as
    /// it was.
    pub(crate) fn add_database(&self, name: &str, keys: &[(&str, Value)]) -> Result<PathBuf, Error> {
        let path = self.path.as_deref().ok_or_else(|| {
            Error::Usage("there is no home folder for a configuration; --config names a file".into())
        })?;
        // Read anew: it may have been edited since the start.
        let old = match read(path) {
            Ok(text) => text,
            Err(ConfigError::Unreadable { source, .. }) if is_absent(&source) => String::new(),
            Err(error) => return Err(error.into()),
        };
        let new = with_database(path, &old, name, keys)?;
        write(path, &new).map_err(Error::local("cannot write the configuration"))?;
        Ok(path.into())
    }
}

/// The text with one more entry.
fn with_database(path: &Path, old: &str, name: &str, keys: &[(&str, Value)]) -> Result<String, Error> {
    let file = File::parse(path, old).map_err(ConfigError::from)?;
    is_free(&file, path, name)?;
    let mut new = old.to_owned();
    if !new.is_empty() {
        new += if new.ends_with('\n') { "\n" } else { "\n\n" };
    }
    // Writing to memory does not fail. The name is quoted, which takes any; the check below says what is wrong with it.
    let _ = writeln!(new, "[db.{}]", key(name));
    for (key, value) in keys {
        let _ = writeln!(new, "{key} = {value}");
    }
    File::parse(path, &new).map_err(ConfigError::from)?;
    Ok(new)
}

fn is_free(file: &File, path: &Path, name: &str) -> Result<(), Error> {
    if !file.databases.contains_key(name) {
        return Ok(());
    }
    let path = path.display();
    Err(Error::Usage(format!("{path} has a [db.{name}] already: take another name, or edit it")))
}

/// A key as TOML has it.
fn key(name: &str) -> String {
    let bare = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    if !name.is_empty() && name.bytes().all(bare) { name.into() } else { Value::from(name).to_string() }
}

/// Replaces the file, through the links that lead to it.
fn write(path: &Path, text: &str) -> io::Result<()> {
    match fs::metadata(path) {
        Ok(found) => edit_in_place(&fs::canonicalize(path)?, text.as_bytes(), Some(&found)),
        Err(error) if is_absent(&error) => edit_in_place(path, text.as_bytes(), None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn added(old: &str, name: &str) -> Result<String, String> {
        let keys = [("instance", Value::from("prod-orders")), ("iam", Value::from(true))];
        with_database(Path::new("/c"), old, name, &keys).map_err(|error| error.to_string())
    }

    #[test]
    fn an_entry_stands_behind_what_was_written() {
        let entry = "[db.orders]\ninstance = \"prod-orders\"\niam = true\n";
        assert_eq!(added("", "orders").unwrap(), entry);
        let old = "# mine\n[defaults]\nregion = 'r'";
        assert_eq!(added(old, "orders").unwrap(), format!("{old}\n\n{entry}"));
        assert!(added("", "or.ders").unwrap().starts_with("[db.\"or.ders\"]\n"));
    }

    #[test]
    fn what_is_there_is_not_replaced_and_a_wrong_name_is_refused() {
        let there = added("[db.orders]\ncluster = 'o'\n", "orders").unwrap_err();
        assert_eq!(there, "/c has a [db.orders] already: take another name, or edit it");
        for name in ["", "a b", "i-0123456789abcdef0", "x]\n[defaults", "-L"] {
            let error = added("", name).unwrap_err();
            assert!(error.starts_with("/c:1: "), "{name:?}: {error}");
        }
        added("[db.a]\nuser = 'x'\nuser = 'y'\n", "b").unwrap_err();
    }

    #[test]
    fn a_file_behind_a_link_keeps_its_place_and_its_mode() {
        let folder = tempfile::tempdir().unwrap();
        let (link, file) = (folder.path().join("made/link.toml"), folder.path().join("file.toml"));
        fs::write(&file, "").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        fs::create_dir(folder.path().join("made")).unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        let config = Config { path: Some(link.clone()), ..Config::default() };
        config.add_database("orders", &[("user", Value::from("a\"b"))]).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "[db.orders]\nuser = 'a\"b'\n");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o644);
    }

    #[test]
    fn the_first_entry_makes_the_file_and_its_folder() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ssm/config.toml");
        let config = Config { path: Some(path.clone()), ..Config::default() };
        assert_eq!(config.add_database("orders", &[]).unwrap(), path);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
