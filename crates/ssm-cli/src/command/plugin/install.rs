//! `ssm plugin install`, `uninstall` and `status`: the link that the AWS CLI finds.

use std::env;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use directories::BaseDirs;
use rustix::process::geteuid;

use crate::args::{InstallArgs, UninstallArgs};
use crate::error::Error;
use crate::output::{Lines, print, say, visible};
use crate::process::{is_program, is_same, own_path};
use crate::version::says;

/// What the AWS CLI starts.
const NAME: &str = "session-manager-plugin";

/// Where a plugin of others is kept while ours has its place.
const ASIDE: &str = "session-manager-plugin.before-ssm";

/// Where AWS's installers put theirs, in case PATH does not lead there.
const OFFICIAL: [&str; 2] = ["/usr/local/sessionmanagerplugin/bin", "/usr/local/bin"];

/// What others may not do with a folder that programs are started from.
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// Longest answer of a plugin to `--version` that is shown.
const VERSION_MAX: usize = 64;

/// How long that may take.
const VERSION_LIMIT: Duration = Duration::from_secs(5);

/// Runs `ssm plugin install`.
pub(super) fn install(args: &InstallArgs) -> Result<ExitCode, Error> {
    let own = own_path().map_err(Error::local("cannot find this program"))?;
    let path = folders(&env::var_os("PATH").unwrap_or_default());
    let folder = match &args.dir {
        Some(folder) => {
            std::path::absolute(folder).map_err(Error::local("cannot tell where the folder is"))?
        }
        None => suitable(&path, home_bin().as_deref())?,
    };
    DirBuilder::new().recursive(true).mode(0o755).create(&folder).map_err(in_folder(&folder))?;
    let link = folder.join(NAME);
    match put(&own, &folder, args.force)? {
        Put::Already => say(format_args!("{} leads to this program already", link.display())),
        Put::New => say(format_args!("{} leads to {}", link.display(), own.display())),
        Put::Aside => {
            say(format_args!("{} leads to {}; what was there is {ASIDE}", link.display(), own.display()))
        }
    }
    advise(&path, &link, &own);
    Ok(ExitCode::SUCCESS)
}

/// Says what is left to do, and how to undo what was done.
fn advise(path: &[PathBuf], link: &Path, own: &Path) {
    let folder = link.parent().unwrap_or_else(|| Path::new("/"));
    match plugins(path).first() {
        Some(first) if is_same(first, own) => {
            say(format_args!("the AWS CLI uses it from here on; undo it with: {}", undo(folder, path)));
        }
        Some(first) => {
            say(format_args!(
                "but PATH leads to {} first: put {} in front of it",
                first.display(),
                folder.display()
            ));
        }
        None => say(format_args!(
            "but {} is not in PATH: add `export PATH=\"{}:$PATH\"` to the start of your shell",
            folder.display(),
            folder.display()
        )),
    }
}

fn undo(folder: &Path, path: &[PathBuf]) -> String {
    match path.iter().any(|known| known == folder) {
        true => "ssm plugin uninstall".into(),
        false => format!("ssm plugin uninstall --dir {}", folder.display()),
    }
}

/// Runs `ssm plugin uninstall`.
pub(super) fn uninstall(args: &UninstallArgs) -> Result<ExitCode, Error> {
    let own = own_path().map_err(Error::local("cannot find this program"))?;
    let mut searched = match &args.dir {
        Some(folder) => vec![folder.clone()],
        None => folders(&env::var_os("PATH").unwrap_or_default()),
    };
    if args.dir.is_none() {
        searched.extend(home_bin());
    }
    let Some(folder) = searched.iter().find(|folder| is_ours(&folder.join(NAME), &own)) else {
        let where_to = match &args.dir {
            Some(folder) => format!("{} has no link to this program", folder.join(NAME).display()),
            None => format!("no {NAME} in PATH is a link to this program"),
        };
        return Err(Error::InTheWay(where_to));
    };
    let (link, aside) = (folder.join(NAME), folder.join(ASIDE));
    if fs::symlink_metadata(&aside).is_ok() {
        // Over the link, so that there is a plugin at every moment.
        fs::rename(&aside, &link).map_err(in_folder(folder))?;
        say(format_args!("{} is again what it was before", link.display()));
    } else {
        fs::remove_file(&link).map_err(in_folder(folder))?;
        say(format_args!("{} is gone", link.display()));
    }
    Ok(ExitCode::SUCCESS)
}

/// Runs `ssm plugin status`.
pub(super) async fn status() -> Result<ExitCode, Error> {
    let own = own_path().map_err(Error::local("cannot find this program"))?;
    let path = folders(&env::var_os("PATH").unwrap_or_default());
    let in_path = plugins(&path);
    let official = OFFICIAL.map(PathBuf::from);
    let elsewhere = plugins(&official).into_iter().filter(|plugin| !in_path.contains(plugin));
    let mut text = String::new();
    for (number, plugin) in in_path.iter().cloned().chain(elsewhere).enumerate() {
        let who = if is_same(&plugin, &own) { "this program" } else { "another program" };
        let place = match number {
            0 if !in_path.is_empty() => "used by the AWS CLI",
            _ if number < in_path.len() => "hidden by the first",
            _ => "not in PATH",
        };
        let version = version(&plugin).await.unwrap_or_else(|| "no version".into());
        text += &format!("{}  {who}, {version}, {place}\n", plugin.display());
    }
    if !text.is_empty() {
        print(format!("{}\n", visible(&text, Lines::Kept)))?;
    }
    let is_used = in_path.first().is_some_and(|first| is_same(first, &own));
    if !is_used {
        say("the AWS CLI does not use this program; ssm plugin install changes that");
    }
    Ok(ExitCode::from(u8::from(!is_used)))
}

/// What a plugin says of itself, as the AWS CLI asks it.
async fn version(plugin: &Path) -> Option<String> {
    let text = tokio::time::timeout(VERSION_LIMIT, says(plugin, "--version")).await.ok()?.ok()?;
    let is_version =
        !text.is_empty() && text.len() <= VERSION_MAX && text.bytes().all(|byte| byte.is_ascii_graphic());
    is_version.then_some(text)
}

/// The folders of PATH. One that depends on where a user is says nothing about the next time.
fn folders(path: &std::ffi::OsStr) -> Vec<PathBuf> {
    env::split_paths(path).filter(|folder| folder.is_absolute()).collect()
}

/// The plugins in these folders, links that lead nowhere left out.
fn plugins(folders: &[PathBuf]) -> Vec<PathBuf> {
    folders.iter().map(|folder| folder.join(NAME)).filter(|plugin| is_program(plugin)).collect()
}

/// Where programs of one user are by custom.
fn home_bin() -> Option<PathBuf> {
    Some(BaseDirs::new()?.home_dir().join(".local/bin"))
}

/// `home_bin` if PATH has it, else the first folder there that belongs to this user, else `home_bin` all the same.
fn suitable(path: &[PathBuf], home_bin: Option<&Path>) -> Result<PathBuf, Error> {
    if let Some(bin) = home_bin.filter(|bin| path.iter().any(|folder| folder == bin)) {
        return Ok(bin.to_owned());
    }
    let own = path.iter().find(|folder| {
        fs::metadata(folder).is_ok_and(|found| {
            found.is_dir() && found.uid() == geteuid().as_raw() && found.mode() & WRITABLE_BY_OTHERS == 0
        })
    });
    match (own, home_bin) {
        (Some(own), _) => Ok(own.clone()),
        (None, Some(bin)) => Ok(bin.to_owned()),
        (None, None) => Err(Error::Usage("no folder of PATH is yours: name one with --dir".into())),
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Put {
    New,
    Already,
    /// What was there has another name.
    Aside,
}

/// Makes the link.
fn put(own: &Path, folder: &Path, force: bool) -> Result<Put, Error> {
    let (link, aside) = (folder.join(NAME), folder.join(ASIDE));
    let failed = in_folder(folder);
    let is_there = fs::symlink_metadata(&link).is_ok();
    if is_there && is_same(&link, own) {
        return Ok(Put::Already);
    }
    // A link of ours from before a move, or one that leads nowhere, is nothing to keep.
    let keep = is_there && fs::metadata(&link).is_ok();
    if keep && !force {
        return Err(Error::InTheWay(format!(
            "{} is another plugin, AWS's own for one: --force puts it aside as {ASIDE}, --dir takes another folder",
            link.display()
        )));
    }
    // The same one is there when an earlier try was cut short.
    if keep && fs::symlink_metadata(&aside).is_ok() && !are_one(&aside, &link) {
        return Err(Error::InTheWay(format!("{} is there already: move it away first", aside.display())));
    }
    let fresh = folder.join(format!("{NAME}.{}", std::process::id()));
    let made = symlink(own, &fresh).and_then(|()| match keep {
        true => exchange(&fresh, &link, &aside),
        false => fs::rename(&fresh, &link),
    });
    if made.is_err() {
        let _ = fs::remove_file(&fresh);
    }
    made.map_err(failed)?;
    Ok(if keep { Put::Aside } else { Put::New })
}

/// Puts `fresh` in the place of `link`, which is `aside` then. There is a plugin at every moment where the system can give a file
/// two names, and again one after a failure in any case.
fn exchange(fresh: &Path, link: &Path, aside: &Path) -> io::Result<()> {
    let is_linked = are_one(link, aside) || fs::hard_link(link, aside).is_ok();
    if !is_linked {
        fs::rename(link, aside)?;
    }
    fs::rename(fresh, link).inspect_err(|_| {
        let _ = if is_linked { fs::remove_file(aside) } else { fs::rename(aside, link) };
    })
}

/// Whether two names are those of one file, or of one link.
fn are_one(one: &Path, other: &Path) -> bool {
    let file = |path: &Path| fs::symlink_metadata(path).map(|found| (found.dev(), found.ino())).ok();
    file(one).is_some_and(|one| Some(one) == file(other))
}

/// Whether a link leads to this program. A copy of it may be there for reasons of its own.
fn is_ours(link: &Path, own: &Path) -> bool {
    link.is_symlink() && is_same(link, own)
}

fn in_folder(folder: &Path) -> impl FnOnce(io::Error) -> Error + use<> {
    let folder = folder.to_owned();
    move |error| Error::InTheWay(format!("{} cannot be changed: {error}", folder.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    struct Place {
        folder: tempfile::TempDir,
    }

    impl Place {
        fn new() -> Self {
            let place = Self { folder: tempfile::tempdir().unwrap() };
            fs::write(place.own(), "ours").unwrap();
            place
        }

        fn own(&self) -> PathBuf {
            self.folder.path().join("ssm")
        }

        fn put(&self, force: bool) -> Result<Put, String> {
            put(&self.own(), self.folder.path(), force).map_err(|error| error.to_string())
        }

        fn read(&self, name: &str) -> String {
            fs::read_to_string(self.folder.path().join(name)).unwrap()
        }
    }

    #[test]
    fn a_link_is_made_once() {
        let place = Place::new();
        assert_eq!(place.put(false), Ok(Put::New));
        assert_eq!(place.put(false), Ok(Put::Already));
        assert_eq!(place.read(NAME), "ours");
        assert!(is_ours(&place.folder.path().join(NAME), &place.own()));
        assert_eq!(fs::read_dir(place.folder.path()).unwrap().count(), 2);
    }

    #[test]
    fn the_plugin_of_aws_is_kept() {
        let place = Place::new();
        fs::write(place.folder.path().join(NAME), "theirs").unwrap();
        assert!(place.put(false).unwrap_err().contains("--force"));
        assert_eq!(place.read(NAME), "theirs");
        assert_eq!(place.put(true), Ok(Put::Aside));
        assert_eq!((place.read(NAME), place.read(ASIDE)), ("ours".into(), "theirs".into()));
        fs::remove_file(place.folder.path().join(NAME)).unwrap();
        fs::write(place.folder.path().join(NAME), "others").unwrap();
        assert!(place.put(true).unwrap_err().contains("move it away"));
        assert_eq!((place.read(NAME), place.read(ASIDE)), ("others".into(), "theirs".into()));
    }

    #[test]
    fn a_failure_leaves_the_plugin_that_was_there() {
        let place = Place::new();
        let [link, aside, fresh] = [NAME, ASIDE, "fresh"].map(|name| place.folder.path().join(name));
        fs::write(&link, "theirs").unwrap();
        assert!(exchange(&fresh, &link, &aside).is_err());
        assert!(place.read(NAME) == "theirs" && !aside.exists());
        // A folder has no second name.
        fs::remove_file(&link).unwrap();
        fs::create_dir(&link).unwrap();
        assert!(exchange(&fresh, &link, &aside).is_err());
        assert!(link.is_dir() && !aside.exists());
    }

    #[test]
    fn an_exchange_that_was_cut_short_is_made_up_for() {
        let place = Place::new();
        let [link, aside] = [NAME, ASIDE].map(|name| place.folder.path().join(name));
        fs::write(&link, "theirs").unwrap();
        fs::hard_link(&link, &aside).unwrap();
        assert_eq!(place.put(true), Ok(Put::Aside));
        assert_eq!((place.read(NAME), place.read(ASIDE)), ("ours".into(), "theirs".into()));
    }

    #[test]
    fn a_link_that_leads_nowhere_is_replaced() {
        let place = Place::new();
        symlink("gone", place.folder.path().join(NAME)).unwrap();
        assert_eq!(place.put(false), Ok(Put::New));
        assert_eq!(place.read(NAME), "ours");
    }

    #[test]
    fn the_home_of_the_user_comes_first_then_what_is_theirs() {
        let folder = tempfile::tempdir().unwrap();
        let [open, own, bin] = ["open", "own", "bin"].map(|name| {
            let path = folder.path().join(name);
            fs::create_dir(&path).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
            path
        });
        fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).unwrap();
        let path = [folder.path().join("absent"), open, own.clone(), bin.clone()];
        assert_eq!(suitable(&path, Some(&bin)).unwrap(), bin);
        assert_eq!(suitable(&path[..3], Some(&bin)).unwrap(), own);
        assert_eq!(suitable(&path[..2], Some(&bin)).unwrap(), bin);
        assert!(suitable(&path[..2], None).is_err());
    }
}
