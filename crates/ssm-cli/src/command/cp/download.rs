//! From a machine.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Seek as _, SeekFrom, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use indicatif::ProgressBar;
use rustix::process::geteuid;
use tokio::io::AsyncReadExt as _;

use super::digest::Digest;
use super::far::{Far, Kind, unexpected};
use super::{progress, tree};
use crate::error::Error;
use crate::output::say;

/// Received at once.
const READ_LEN: usize = 64 * 1024;

/// What others may not do with the part.
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// What the far side has.
#[derive(Debug)]
struct Is {
    kind: Kind,
    none: Digest,
    size: Option<u64>,
    /// Mode and time, where there is a program that tells them.
    dress: Option<(u32, u64)>,
}

/// Where it goes, and what it is until it is whole.
#[derive(Debug)]
struct Target {
    path: PathBuf,
    part: PathBuf,
    stage: PathBuf,
}

/// Receives it all, from where an earlier copy was interrupted, and puts it in place.
pub(super) async fn run(far: &mut Far, from: &OsStr, to: &Path) -> Result<ExitCode, Error> {
    let words = far.heard("is").await?;
    let is = Is::parse(&words).ok_or_else(|| unexpected(&words.join(" ")))?;
    let target = Target::find(from, to, is.kind)?;
    let mut file = target.open().map_err(|error| target.wrong(&error))?;
    let (have, mut digest) = resume(far, &is, &mut file).await?.unwrap_or_else(|| (0, is.none.clone()));
    file.set_len(have)
        .and_then(|()| file.seek(SeekFrom::Start(have)))
        .map_err(|error| target.wrong(&error))?;
    far.say(format!("go {have}")).await;
    if have > 0 {
        say(format_args!("going on at {have} bytes"));
    }
    let name = target.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let bar = progress::bar(&name, is.size);
    bar.set_position(have);
    let received = receive(far, &mut file, &mut digest, &bar).await.map_err(|error| target.wrong(&error));
    bar.finish_and_clear();
    received?;
    let read = far.heard("read").await?;
    if far.heard("whole").await? != [digest.text()] {
        let _ = fs::remove_file(&target.part);
        return Err(Error::Copy(
            "what arrived is not what is there; it may have changed meanwhile, try again".into(),
        ));
    }
    far.heard("done").await?;
    // A folder is better with what could be read than without. A file is not: the part stays for another try.
    if is.kind == Kind::File && read != ["0"] {
        return Err(Error::Copy("it could not be read to its end over there; nothing was changed".into()));
    }
    let placed =
        tokio::task::spawn_blocking(move || target.place(file, &is).map_err(|error| target.wrong(&error)));
    placed.await.unwrap_or_else(|error| Err(Error::Local { what: "a task failed", source: error.into() }))?;
    if read == ["0"] {
        return Ok(ExitCode::SUCCESS);
    }
    say("not everything could be read over there, and the copy does not have it");
    Ok(ExitCode::FAILURE)
}

impl Is {
    fn parse(words: &[String]) -> Option<Self> {
        let [kind, tool, size, mode, mtime] = words else { return None };
        let kind = match kind.as_str() {
            "file" => Kind::File,
            "tree" => Kind::Tree,
            _ => return None,
        };
        if tool == "cksum" {
            say("the far side has none of sha256sum, shasum and openssl: the copy is compared by cksum");
        }
        let dress = u32::from_str_radix(mode, 8).ok().zip(mtime.parse().ok());
        if dress.is_none() && kind == Kind::File {
            say("the far side has no stat: the copy has a mode and a time of its own");
        }
        Some(Self { kind, none: Digest::named(tool)?, size: size.parse().ok(), dress })
    }
}

impl Target {
    fn find(from: &OsStr, to: &Path, kind: Kind) -> Result<Self, Error> {
        let is_folder = to.is_dir();
        if !is_folder && to.as_os_str().as_bytes().ends_with(b"/") {
            return Err(Error::Copy(format!("there is no folder {}", to.display())));
        }
        let path = if is_folder { to.join(name(from)) } else { to.to_owned() };
        let found = fs::symlink_metadata(&path).ok();
        let in_the_way = match kind {
            Kind::File => path.is_dir(),
            Kind::Tree => found.is_some_and(|found| !found.is_dir()),
        };
        if in_the_way {
            return Err(Error::Copy(format!("{} is in the way", path.display())));
        }
        // What is in `.` goes into the folder itself.
        let (parent, name) = match (path.parent(), path.file_name()) {
            (Some(parent), Some(name)) => (parent.to_owned(), name.to_owned()),
            _ => (path.clone(), ".".into()),
        };
        let beside = |ending: &str| {
            let mut beside = OsString::from(".");
            beside.push(&name);
            beside.push(ending);
            parent.join(beside)
        };
        Ok(Self { part: beside(".ssm-part"), stage: beside(".ssm-new"), path })
    }

    /// Opens the part of an earlier copy, or makes a new one. In a folder for everybody it may be somebody else's, who would have the
    /// copy then.
    fn open(&self) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).mode(0o600);
        match options.clone().create_new(true).open(&self.part) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            made => return made,
        }
        let is_own = |found: &Metadata| {
            found.is_file()
                && found.uid() == geteuid().as_raw()
                && found.nlink() == 1
                && found.mode() & WRITABLE_BY_OTHERS == 0
        };
        let refused =
            || io::Error::other(format!("{} is in the way, and not yours alone", self.part.display()));
        if !is_own(&fs::symlink_metadata(&self.part)?) {
            return Err(refused());
        }
        let file = options.open(&self.part)?;
        // Asked of what is open: a name may lead elsewhere a moment later.
        if is_own(&file.metadata()?) { Ok(file) } else { Err(refused()) }
    }

    fn place(&self, mut file: File, is: &Is) -> io::Result<()> {
        match is.kind {
            Kind::File => {
                file.sync_all()?;
                let Some((mode, mtime)) = is.dress else {
                    return fs::rename(&self.part, &self.path);
                };
                tree::dress(&self.part, mode, mtime)?;
                fs::rename(&self.part, &self.path)
            }
            Kind::Tree => {
                if fs::symlink_metadata(&self.stage).is_ok() {
                    fs::remove_dir_all(&self.stage)?;
                }
                tree::private_folder(&self.stage)?;
                for skipped in tree::unpack(&mut file, &self.stage)? {
                    say(format_args!("left out, as neither file, folder nor link: {}", skipped.display()));
                }
                tree::place(&self.stage, &self.path)?;
                fs::remove_file(&self.part)
            }
        }
    }

    fn wrong(&self, error: &io::Error) -> Error {
        Error::Copy(format!("{}: {error}", self.path.display()))
    }
}

/// The last part of the path, or `.` where it has none of its own.
fn name(path: &OsStr) -> OsString {
    let bytes = path.as_bytes();
    if matches!(bytes, b"~" | b"~/") {
        return ".".into();
    }
    let end = bytes.iter().rposition(|byte| *byte != b'/').map_or(0, |last| last + 1);
    let bytes = &bytes[..end];
    let start = bytes.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
    match &bytes[start..] {
        b"" | b"." | b".." => ".".into(),
        name => OsStr::from_bytes(name).to_owned(),
    }
}

/// How much of it is here already, if the far side has the same.
async fn resume(far: &mut Far, is: &Is, file: &mut File) -> Result<Option<(u64, Digest)>, Error> {
    let wrong = |error: io::Error| Error::Copy(format!("the part that is here cannot be read: {error}"));
    let have = file.metadata().map_err(wrong)?.len();
    if have == 0 || is.size.is_some_and(|size| size < have) {
        return Ok(None);
    }
    far.say(format!("sum {have}")).await;
    let (mut from, mut digest) = (file.try_clone().map_err(wrong)?, is.none.clone());
    let read = tokio::task::spawn_blocking(move || super::read_into(&mut from, &mut digest).map(|_| digest));
    let digest = read.await.unwrap_or_else(|error| Err(error.into())).map_err(wrong)?;
    let same = far.heard("sum").await? == [digest.text()];
    Ok(same.then_some((have, digest)))
}

async fn receive(far: &mut Far, file: &mut File, digest: &mut Digest, bar: &ProgressBar) -> io::Result<()> {
    let mut buf = vec![0; READ_LEN];
    loop {
        let len = far.output.read(&mut buf).await?;
        if len == 0 {
            return Ok(());
        }
        file.write_all(&buf[..len])?;
        digest.update(&buf[..len]);
        bar.inc(len as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_is_the_last_part_of_the_path() {
        for (path, expected) in [
            ("/a/b", "b"),
            ("b", "b"),
            ("a/b//", "b"),
            ("~/x y", "x y"),
            ("-rf", "-rf"),
            ("", "."),
            ("/", "."),
            ("~", "."),
            ("~/", "."),
            ("a/~", "~"),
            ("a/..", "."),
        ] {
            assert_eq!(name(OsStr::new(path)), OsStr::new(expected), "{path}");
        }
    }
}
