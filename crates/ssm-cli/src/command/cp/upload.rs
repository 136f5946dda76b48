//! To a machine.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use indicatif::ProgressBar;
use tokio::io::AsyncWriteExt as _;

use super::date;
use super::digest::Digest;
use super::far::{self, Far, Kind, unexpected};
use super::tree::{MODE, Packed};
use crate::error::Error;
use crate::output::say;

/// Read at once.
const READ_LEN: usize = 64 * 1024;

type Reader = Box<dyn Read + Send>;

/// What is copied.
#[derive(Debug, Clone)]
pub(super) struct Source {
    path: PathBuf,
    pub(super) kind: Kind,
    pub(super) name: OsString,
    /// Bytes, where that is known before.
    pub(super) size: Option<u64>,
    mode: u32,
    mtime: i64,
}

impl Source {
    pub(super) fn find(path: &Path) -> Result<Self, Error> {
        let wrong = |error: io::Error| Error::Copy(format!("{}: {error}", path.display()));
        let found = fs::metadata(path).map_err(wrong)?;
        let kind = match found.file_type() {
            kind if kind.is_file() => Kind::File,
            kind if kind.is_dir() => Kind::Tree,
            _ => return Err(Error::Copy(format!("{} is no file and no folder", path.display()))),
        };
        let name = match path.file_name() {
            Some(name) if path.as_os_str() != OsStr::new(".") => name.to_owned(),
            // `.` and `..` have names elsewhere only: what is in them goes into the destination.
            _ => ".".into(),
        };
        let size = (kind == Kind::File).then_some(found.len());
        Ok(Self { path: path.to_owned(), kind, name, size, mode: found.mode() & MODE, mtime: found.mtime() })
    }

    fn open(&self) -> io::Result<Reader> {
        Ok(match self.kind {
            Kind::File => Box::new(File::open(&self.path)?),
            Kind::Tree => Box::new(Packed::new(&self.path)),
        })
    }

    fn wrong(&self, error: &io::Error) -> Error {
        Error::Copy(format!("{}: {error}", self.path.display()))
    }
}

/// Sends it all, from where an earlier copy was interrupted.
pub(super) async fn run(far: &mut Far, source: Source, bar: &ProgressBar) -> Result<(), Error> {
    let part = far.heard("part").await?;
    let [tool, have] = &part[..] else { return Err(unexpected(&part.join(" "))) };
    let (Some(none), Ok(have)) = (Digest::named(tool), have.parse::<u64>()) else {
        return Err(unexpected(&part.join(" ")));
    };
    if tool == "cksum" {
        say("the far side has none of sha256sum, shasum and openssl: the copy is compared by cksum");
    }
    let resumed = resume(far, &source, &none, have).await?;
    let from = if resumed.is_some() { have } else { 0 };
    far.say(format!("go {from}")).await;
    bar.set_position(from);
    if from > 0 {
        say(format_args!("going on at {from} bytes"));
    }
    let (mut reader, mut digest) = match resumed {
        Some(resumed) => resumed,
        None => (source.open().map_err(|error| source.wrong(&error))?, none),
    };
    let size = source.size.map_or(0, |size| size.saturating_sub(from));
    if let Some(len) = far.input_len.take() {
        // Nobody waits for it any more when the session has ended, which shows later.
        let _ = len.send(size);
    }
    let sent = from + send(far, &source, &mut reader, &mut digest, bar).await?;
    let got = far.heard("got").await?;
    if got != [sent.to_string(), digest.text()] {
        far.say("drop").await;
        let _ = far.heard("done").await;
        return Err(Error::Copy("what arrived is not what was sent; nothing was changed, try again".into()));
    }
    far.say(format!("keep {:o} {}", source.mode, date::touch(source.mtime))).await;
    far.heard("done").await?;
    Ok(())
}

/// What goes on behind the first `have` bytes, if the far side has the same.
async fn resume(
    far: &mut Far,
    source: &Source,
    none: &Digest,
    have: u64,
) -> Result<Option<(Reader, Digest)>, Error> {
    if have == 0 || source.size.is_some_and(|size| size < have) {
        return Ok(None);
    }
    far.say("sum").await;
    let (from, mut digest) = (source.clone(), none.clone());
    let read = tokio::task::spawn_blocking(move || {
        let mut reader = from.open()?;
        let whole = super::read_into(&mut (&mut reader).take(have), &mut digest)? == have;
        Ok((whole, reader, digest))
    });
    let read = read.await.unwrap_or_else(|error| Err(error.into()));
    let (whole, reader, digest) = read.map_err(|error| source.wrong(&error))?;
    let same = far.heard("sum").await? == [digest.text()];
    Ok((whole && same).then_some((reader, digest)))
}

async fn send(
    far: &mut Far,
    source: &Source,
    reader: &mut Reader,
    digest: &mut Digest,
    bar: &ProgressBar,
) -> Result<u64, Error> {
    let mut buf = vec![0; READ_LEN];
    let mut sent = 0;
    let mut input = far.input.take().expect("the input is given away once");
    loop {
        let len = reader.read(&mut buf).map_err(|error| source.wrong(&error))?;
        if len == 0 {
            return Ok(sent);
        }
        digest.update(&buf[..len]);
        if input.write_all(&buf[..len]).await.is_err() {
            // It says why instead of what it got.
            return far.heard("got").await.and_then(|words| Err(unexpected(&words.join(" "))));
        }
        sent += len as u64;
        bar.inc(len as u64);
    }
}

/// The script for the far side.
pub(super) fn script(source: &Source, path: &OsStr) -> Vec<u8> {
    far::upload(path, &source.name, source.kind)
}
