//! [`LoginKey`]: the key that EC2 Instance Connect lets in.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio, id};

use rustix::process::{Pid, test_kill_process};

use crate::args::KeyArgs;
use crate::command::instance_connect::{PublicKey, identity, public_path};
use crate::error::Error;
use crate::places;

/// What the folders of keys that were made are called; behind it is the process they are for.
const FOLDER_PREFIX: &str = "key-";

/// A pair of keys for a login.
#[derive(Debug)]
pub(super) enum LoginKey {
    /// Made for it. Dropping it removes it.
    Made(Folder),
    /// The user's own. The private one may be with an agent.
    Own { public: PathBuf, identity: PathBuf },
}

/// A folder with a private key in it.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    public: PathBuf,
}

impl LoginKey {
    /// The key that was asked for, if one was.
    pub(super) fn take(args: &KeyArgs) -> Result<Option<Self>, Error> {
        match (args.send_key, &args.key) {
            (false, _) => Ok(None),
            (true, None) => Ok(Some(Self::Made(Folder::with_key()?))),
            (true, Some(file)) => {
                // What cannot be sent is told before ssh starts.
                PublicKey::read(file)?;
                let public = public_path(file);
                let identity = identity(&public);
                Ok(Some(Self::Own { public, identity }))
            }
        }
    }

    /// The file of the public key.
    pub(super) fn public(&self) -> &Path {
        match self {
            Self::Made(folder) => &folder.public,
            Self::Own { public, .. } => public,
        }
    }

    /// What ssh logs in with.
    pub(super) fn identity(&self) -> PathBuf {
        match self {
            Self::Made(folder) => folder.public.with_extension(""),
            Self::Own { identity, .. } => identity.clone(),
        }
    }

    /// Whether it has to be removed.
    pub(super) fn is_made(&self) -> bool {
        matches!(self, Self::Made(_))
    }
}

impl Folder {
    fn with_key() -> Result<Self, Error> {
        let parent = places::runtime_folder().map_err(Error::local("cannot keep a key"))?;
        sweep(&parent);
        let path = parent.join(format!("{FOLDER_PREFIX}{}", id()));
        let made = DirBuilder::new().mode(0o700).create(&path);
        made.map_err(Error::local("cannot make a folder for a key"))?;
        // From here on it is removed whatever happens.
        let folder = Self { public: path.join("key.pub"), path };
        let mut keygen = Command::new("ssh-keygen");
        keygen.args(["-q", "-t", "ed25519", "-N", "", "-C", "ssm", "-f"]).arg(folder.path.join("key"));
        let output = keygen.stdin(Stdio::null()).output();
        let output = output.map_err(|source| Error::Command { name: "ssh-keygen".into(), source })?;
        if !output.status.success() {
            let source = io::Error::other(String::from_utf8_lossy(&output.stderr).into_owned());
            return Err(Error::Local { what: "ssh-keygen makes no key", source });
        }
        Ok(folder)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.path) {
            tracing::warn!(folder = %self.path.display(), %error, "a key that is of no more use is left behind");
        }
    }
}

/// Removes the keys of processes that were killed. Nothing takes them any more.
fn sweep(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let process = name.to_str().and_then(|name| name.strip_prefix(FOLDER_PREFIX)?.parse().ok());
        let Some(process) = process.and_then(Pid::from_raw) else { continue };
        // Its own number is that of a process that had it before.
        let is_over = process.as_raw_nonzero().get().unsigned_abs() == id()
            || matches!(test_kill_process(process), Err(rustix::io::Errno::SRCH));
        if is_over {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_processes_that_are_gone_are_swept_away() {
        let parent = tempfile::tempdir().unwrap();
        let mut child = Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        let folder = |name: String| {
            let path = parent.path().join(name);
            fs::create_dir(&path).unwrap();
            path
        };
        let gone = folder(format!("{FOLDER_PREFIX}{}", child.id()));
        let alive = folder(format!("{FOLDER_PREFIX}1"));
        let others = [folder("key-x".into()), folder("key-0".into()), folder("tunnels".into())];
        sweep(parent.path());
        assert!(!gone.exists() && alive.exists() && others.iter().all(|other| other.exists()));
    }

    #[test]
    fn the_private_key_beside_the_public_one_is_used() {
        let folder = tempfile::tempdir().unwrap();
        let (public, private) = (folder.path().join("k.pub"), folder.path().join("k"));
        fs::write(&public, "ssh-ed25519 AAAA\n").unwrap();
        let take = |file: &Path| {
            LoginKey::take(&KeyArgs { send_key: true, key: Some(file.into()) }).unwrap().unwrap()
        };
        assert_eq!(take(&public).identity(), public, "an agent has it");
        fs::write(&private, "").unwrap();
        for file in [&public, &private] {
            let key = take(file);
            assert_eq!((key.public(), key.identity()), (public.as_path(), private.clone()));
        }
    }
}
