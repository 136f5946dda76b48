//! A folder as a stream, and back: tar, with nothing in it that leads out of the folder.

use std::fs::{self, File, Metadata, OpenOptions, Permissions};
use std::io::{self, Read, Seek as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, symlink};
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};
use std::vec;

use tar::{Archive, Builder, Entry, EntryType, Header};

use crate::output::say;

/// The bits of a mode that are kept: none that gives a program the rights of another user.
pub(super) const MODE: u32 = 0o777;

/// Bytes of a block of an archive.
const BLOCK: u64 = 512;

/// Reads as the archive of a folder, the same for the same folder.
pub(super) struct Packed {
    root: PathBuf,
    /// What is left of each folder on the way down to where we are.
    stack: Vec<vec::IntoIter<PathBuf>>,
    /// Headers, padding and the end.
    bytes: io::Cursor<Vec<u8>>,
    file: Option<(File, u64)>,
    padding: u64,
    ended: bool,
}

impl Packed {
    pub(super) fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            stack: vec![vec![PathBuf::from(".")].into_iter()],
            bytes: io::Cursor::default(),
            file: None,
            padding: 0,
            ended: false,
        }
    }

    /// The next thing, or the end.
    fn advance(&mut self) -> io::Result<()> {
        let Some(level) = self.stack.last_mut() else {
            self.ended = true;
            self.bytes = io::Cursor::new(vec![0; 2 * BLOCK as usize]);
            return Ok(());
        };
        let Some(path) = level.next() else {
            self.stack.pop();
            return Ok(());
        };
        let full = self.root.join(&path);
        let found = fs::symlink_metadata(&full).map_err(|error| named(&full, error))?;
        let (kind, mut builder) = (found.file_type(), Builder::new(Vec::new()));
        let mut header = header(&found);
        if kind.is_dir() {
            header.set_entry_type(EntryType::Directory);
            let mut inside: Vec<PathBuf> = fs::read_dir(&full)?
                .map(|entry| Ok(path.join(entry?.file_name())))
                .collect::<io::Result<_>>()?;
            inside.sort();
            self.stack.push(inside.into_iter());
            builder.append_data(&mut header, path.join(""), io::empty())?;
        } else if kind.is_symlink() {
            header.set_entry_type(EntryType::Symlink);
            builder.append_link(&mut header, &path, fs::read_link(&full)?)?;
        } else if kind.is_file() {
            let file = File::open(&full).map_err(|error| named(&full, error))?;
            header.set_size(found.len());
            builder.append_data(&mut header, &path, io::empty())?;
            self.padding = found.len().next_multiple_of(BLOCK) - found.len();
            self.file = Some((file, found.len()));
        } else {
            say(format_args!("left out, as neither file, folder nor link: {}", full.display()));
        }
        // Without the end of an archive, which the builder writes when it is dropped.
        self.bytes = io::Cursor::new(std::mem::take(builder.get_mut()));
        Ok(())
    }
}

impl Read for Packed {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.bytes.read(buf)? {
                0 => {}
                len => return Ok(len),
            }
            if let Some((file, left)) = &mut self.file {
                if *left == 0 {
                    self.file = None;
                    self.bytes = io::Cursor::new(vec![0; self.padding as usize]);
                    continue;
                }
                let part = buf.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                let len = file.read(&mut buf[..part])?;
                if len == 0 {
                    return Err(io::Error::other("a file became shorter while it was copied"));
                }
                *left -= len as u64;
                return Ok(len);
            }
            if self.ended {
                return Ok(0);
            }
            self.advance()?;
        }
    }
}

fn header(found: &Metadata) -> Header {
    let mut header = Header::new_gnu();
    header.set_mode(found.mode() & MODE);
    header.set_mtime(u64::try_from(found.mtime()).unwrap_or(0));
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(0);
    header
}

/// Unpacks an archive into a folder that is empty and ours. Returns what was left out: neither file, folder nor link.
///
/// # Errors
///
/// When a name leads out of the folder, among others.
pub(super) fn unpack(archive: &mut File, root: &Path) -> io::Result<Vec<PathBuf>> {
    archive.rewind()?;
    let (mut folders, mut skipped) = (Vec::new(), Vec::new());
    for entry in Archive::new(io::BufReader::new(archive)).entries()? {
        let mut entry = entry?;
        let inside = inside(&entry.path()?)?;
        let path = root.join(&inside);
        let kind = entry.header().entry_type();
        let (mode, mtime) = (entry.header().mode()? & MODE, entry.header().mtime()?);
        if kind == EntryType::Directory {
            folder(root, &inside)?;
            folders.push((path, mode, mtime));
            continue;
        }
        if inside.as_os_str().is_empty() {
            return Err(refused(&inside));
        }
        folder(root, inside.parent().unwrap_or_else(|| Path::new("")))?;
        match kind {
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                clear(&path)?;
                file(&mut entry, &path, mode, mtime)?;
            }
            EntryType::Symlink => {
                let target = entry.link_name()?.ok_or_else(|| refused(&inside))?;
                clear(&path)?;
                symlink(target, &path)?;
            }
            EntryType::Link => {
                let target = self::inside(&entry.link_name()?.ok_or_else(|| refused(&inside))?)?;
                folder(root, target.parent().unwrap_or_else(|| Path::new("")))?;
                let target = root.join(target);
                if !fs::symlink_metadata(&target)?.is_file() {
                    return Err(refused(&inside));
                }
                clear(&path)?;
                fs::hard_link(target, &path)?;
            }
            _ => skipped.push(inside),
        }
    }
    // The deepest first: what is put into a folder changes its time, and its mode can forbid it.
    for (path, mode, mtime) in folders.into_iter().rev() {
        dress(&path, mode, mtime)?;
    }
    Ok(skipped)
}

/// A name without anything that leads elsewhere.
fn inside(path: &Path) -> io::Result<PathBuf> {
    let mut inside = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::Normal(name) => inside.push(name),
            Component::RootDir | Component::ParentDir | Component::Prefix(_) => return Err(refused(path)),
        }
    }
    Ok(inside)
}

fn refused(path: &Path) -> io::Error {
    io::Error::other(format!("the archive has a name that leads elsewhere: {}", path.display()))
}

/// Makes a folder and those above it, and makes sure that none of them is a link.
fn folder(root: &Path, inside: &Path) -> io::Result<()> {
    let mut path = root.to_owned();
    for component in inside.components() {
        path.push(component);
        match fs::symlink_metadata(&path) {
            Ok(found) if found.is_dir() => {}
            Ok(_) => return Err(refused(inside)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => private_folder(&path)?,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Makes a folder for us alone.
pub(super) fn private_folder(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    fs::DirBuilder::new().mode(0o700).create(path)
}

/// An archive can have a name twice; the last one counts.
fn clear(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn file(entry: &mut Entry<'_, impl Read>, path: &Path, mode: u32, mtime: u64) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    io::copy(entry, &mut file)?;
    dress(path, mode, mtime)
}

/// Gives a file or a folder its mode and time.
pub(super) fn dress(path: &Path, mode: u32, mtime: u64) -> io::Result<()> {
    let opened = File::open(path)?;
    if let Some(time) = UNIX_EPOCH.checked_add(Duration::from_secs(mtime)) {
        opened.set_modified(time)?;
    }
    opened.set_permissions(Permissions::from_mode(mode & MODE))
}

/// Moves a folder to where it belongs: as a whole when there is nothing, else each thing in it. Nothing is moved when something
/// is in the way.
pub(super) fn place(from: &Path, to: &Path) -> io::Result<()> {
    match fs::symlink_metadata(to) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => move_folder(from, to),
        _ => {
            merge(from, to, Pass::Try)?;
            merge(from, to, Pass::Move)?;
            fs::remove_dir_all(from)
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pass {
    Try,
    Move,
}

fn merge(from: &Path, to: &Path, pass: Pass) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let is_folder = entry.file_type()?.is_dir();
        match fs::symlink_metadata(&target) {
            Ok(found) if is_folder && found.is_dir() => {
                merge(&source, &target, pass)?;
                continue;
            }
            Ok(found) if is_folder || found.is_dir() => {
                return Err(io::Error::other(format!("{} is in the way", target.display())));
            }
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(named(&target, error)),
            _ => {}
        }
        match (pass, is_folder) {
            (Pass::Try, _) => {}
            (Pass::Move, true) => move_folder(&source, &target)?,
            (Pass::Move, false) => fs::rename(&source, &target).map_err(|error| named(&target, error))?,
        }
    }
    Ok(())
}

/// A folder that may not be written to cannot be moved: what is above it is recorded in it.
fn move_folder(from: &Path, to: &Path) -> io::Result<()> {
    let found = fs::symlink_metadata(from)?;
    fs::set_permissions(from, Permissions::from_mode(0o700))?;
    fs::rename(from, to).map_err(|error| named(to, error))?;
    fs::set_permissions(to, Permissions::from_mode(found.mode() & MODE))
}

fn named(path: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    fn archive(build: impl FnOnce(&mut Builder<File>)) -> File {
        let mut builder = Builder::new(tempfile::tempfile().unwrap());
        build(&mut builder);
        builder.into_inner().unwrap()
    }

    fn hostile(name: &str, kind: EntryType, link: &str) -> File {
        let mut header = Header::new_gnu();
        let bytes = header.as_old_mut();
        bytes.name[..name.len()].copy_from_slice(name.as_bytes());
        bytes.linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_entry_type(kind);
        header.set_size(0);
        header.set_mode(0o644);
        header.set_mtime(0);
        header.set_cksum();
        archive(|builder| builder.append(&header, io::empty()).unwrap())
    }

    #[test]
    fn a_folder_comes_back_as_it_was() {
        let (from, to) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        let long = "x".repeat(200);
        for name in ["-rf", "a b", "new\nline", ".hidden", &long] {
            fs::create_dir(from.path().join(format!("{name}.d"))).unwrap();
            let path = from.path().join(format!("{name}.d")).join(name);
            fs::write(&path, vec![7; name.len() * 100]).unwrap();
            dress(&path, 0o640, 1_000_000_000).unwrap();
        }
        symlink("/nowhere", from.path().join("link")).unwrap();
        fs::set_permissions(from.path().join("a b.d"), Permissions::from_mode(0o555)).unwrap();
        let mut packed = tempfile::tempfile().unwrap();
        io::copy(&mut Packed::new(from.path()), &mut packed).unwrap();
        assert_eq!(packed.metadata().unwrap().len() % BLOCK, 0);
        let stage = to.path().join("stage");
        private_folder(&stage).unwrap();
        assert!(unpack(&mut packed, &stage).unwrap().is_empty());
        place(&stage, &to.path().join("there")).unwrap();
        for name in ["-rf", "a b", "new\nline", ".hidden", &long] {
            let path = to.path().join("there").join(format!("{name}.d")).join(name);
            assert_eq!(fs::read(&path).unwrap(), vec![7; name.len() * 100]);
            let found = fs::metadata(&path).unwrap();
            assert_eq!((found.mode() & 0o7777, found.mtime()), (0o640, 1_000_000_000));
        }
        assert_eq!(fs::read_link(to.path().join("there/link")).unwrap(), Path::new("/nowhere"));
        assert_eq!(fs::metadata(to.path().join("there/a b.d")).unwrap().mode() & 0o7777, 0o555);
        for root in [from.path().to_owned(), to.path().join("there")] {
            fs::set_permissions(root.join("a b.d"), Permissions::from_mode(0o755)).unwrap();
        }
    }

    #[test]
    fn no_name_leads_out_of_the_folder() {
        for (name, kind, link) in [
            ("../x", EntryType::Regular, ""),
            ("/tmp/x", EntryType::Regular, ""),
            ("a/../../x", EntryType::Directory, ""),
            ("x", EntryType::Link, "../secret"),
            ("x", EntryType::Link, "/etc/passwd"),
            (".", EntryType::Regular, ""),
        ] {
            let folder = TempDir::new().unwrap();
            let root = folder.path().join("root");
            fs::write(folder.path().join("secret"), "").unwrap();
            private_folder(&root).unwrap();
            let result = unpack(&mut hostile(name, kind, link), &root);
            assert!(result.is_err(), "{name} {kind:?} {link}");
            assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "{name}");
        }
    }

    #[test]
    fn no_link_of_the_archive_is_followed() {
        let folder = TempDir::new().unwrap();
        let (root, outside) = (folder.path().join("root"), folder.path().join("outside"));
        private_folder(&root).unwrap();
        private_folder(&outside).unwrap();
        let mut file = archive(|builder| {
            let mut header = Header::new_gnu();
            header.set_entry_type(EntryType::Symlink);
            header.set_size(0);
            builder.append_link(&mut header, "out", &outside).unwrap();
            let mut header = Header::new_gnu();
            header.set_size(1);
            builder.append_data(&mut header, "out/x", &b"x"[..]).unwrap();
        });
        assert!(unpack(&mut file, &root).is_err());
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    }

    #[test]
    fn a_name_may_be_there_twice() {
        let folder = TempDir::new().unwrap();
        let mut file = archive(|builder| {
            for content in [&b"old"[..], b"new"] {
                let mut header = Header::new_gnu();
                header.set_size(3);
                header.set_mode(0o600);
                builder.append_data(&mut header, "x", content).unwrap();
            }
        });
        unpack(&mut file, folder.path()).unwrap();
        assert_eq!(fs::read(folder.path().join("x")).unwrap(), b"new");
    }

    #[test]
    fn what_is_in_the_way_stays_and_nothing_is_moved() {
        let folder = TempDir::new().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        for (root, name) in [(&from, "a"), (&from, "b"), (&to, "a")] {
            fs::create_dir_all(root).unwrap();
            fs::write(root.join(name), root.as_os_str().as_encoded_bytes()).unwrap();
        }
        fs::create_dir(from.join("sub")).unwrap();
        symlink("/tmp", to.join("sub")).unwrap();
        assert!(place(&from, &to).unwrap_err().to_string().contains("sub is in the way"));
        assert!(!to.join("b").exists() && from.join("b").exists());
        fs::remove_file(to.join("sub")).unwrap();
        place(&from, &to).unwrap();
        assert_eq!(fs::read(to.join("a")).unwrap(), from.as_os_str().as_encoded_bytes());
        assert!(to.join("b").exists() && to.join("sub").is_dir() && !from.exists());
    }
}
