//! `ssm cp`: files and folders each way, unchanged, whole or not at all.

#![cfg(all(feature = "aws", feature = "demo"))]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, UNIX_EPOCH};

use rustix::process::Signal;
use ssm_loopback::{Config, Profile};
use tempfile::TempDir;

use crate::common::{Here, OnTerminal, Outcome, Program, Served};

const NAMES: &[&str] = &["plain", "two words", "-rf", "new\nline", "quo'te\"$(x)`y`", ".hidden", "~", "a:b"];

fn here(profile: Profile) -> Here {
    Here::with(Config { profile, ..Config::default() })
}

fn there(here: &Here, path: &Path) -> OsString {
    let mut place = OsString::from(format!("{}:", here.loopback().target()));
    place.push(path);
    place
}

fn cp(here: &Here, from: impl Into<OsString>, to: impl Into<OsString>) -> Command {
    let mut command = here.ssm(&["cp"]);
    command.args([from.into(), to.into()]);
    command
}

fn run(command: &mut Command) -> Outcome {
    Program::start(command).wait()
}

fn succeed(command: &mut Command) -> Outcome {
    let outcome = run(command);
    assert!(outcome.status.success(), "{outcome:?}");
    outcome
}

fn bytes(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 31 + at / 255) as u8).collect()
}

fn write(path: &Path, content: &[u8], mode: u32) {
    fs::write(path, content).unwrap();
    let time = UNIX_EPOCH + Duration::from_secs(1_234_567_890);
    fs::File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

fn assert_same(one: &Path, other: &Path) {
    assert!(fs::read(one).unwrap() == fs::read(other).unwrap(), "{}", other.display());
    let [one, other] = [one, other].map(|path| fs::metadata(path).unwrap());
    assert_eq!((one.mode(), one.mtime()), (other.mode(), other.mtime()));
}

/// Nothing but these, in particular no parts of copies.
fn assert_names(folder: &Path, names: &[&str]) {
    let mut found: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    found.sort();
    let mut names: Vec<_> = names.iter().map(OsString::from).collect();
    names.sort();
    assert_eq!(found, names);
}

#[test]
fn a_file_goes_up_and_comes_back_with_its_mode_and_time() {
    for profile in [Profile::Fast, Profile::Aws] {
        let here = here(profile);
        let [near, far, back] = [(); 3].map(|()| TempDir::new().unwrap());
        for (number, name) in NAMES.iter().enumerate().take(if profile == Profile::Aws { 3 } else { 99 }) {
            let original = near.path().join(name);
            write(&original, &bytes(number * 10_000), 0o604);
            succeed(&mut cp(&here, &original, there(&here, far.path())));
            assert_same(&original, &far.path().join(name));
            succeed(&mut cp(&here, there(&here, &far.path().join(name)), back.path()));
            assert_same(&original, &back.path().join(name));
        }
    }
}

/// A folder with everything that a folder can have.
fn tree(root: &Path, files: usize) {
    for number in 0..files {
        let folder = root.join(format!("folder {}", number % 7));
        fs::create_dir_all(&folder).unwrap();
        write(&folder.join(format!("{number}{}", "x".repeat(number % 150))), &bytes(number % 3000), 0o640);
    }
    for name in NAMES {
        write(&root.join(name), name.as_bytes(), 0o755);
    }
    symlink("nowhere/at all", root.join("link")).unwrap();
    symlink("/etc", root.join("link out")).unwrap();
    fs::create_dir(root.join("empty")).unwrap();
    fs::set_permissions(root.join("empty"), Permissions::from_mode(0o711)).unwrap();
}

fn assert_same_tree(one: &Path, other: &Path) {
    let mut diff = Command::new("diff");
    let diff = diff.args(["-r", "--no-dereference"]).args([one, other]).output().unwrap();
    assert!(diff.status.success(), "{}", String::from_utf8_lossy(&diff.stdout));
    assert_eq!(modes(one), modes(other));
}

fn modes(root: &Path) -> Vec<(PathBuf, u32)> {
    let mut modes = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let found = fs::symlink_metadata(entry.path()).unwrap();
            modes.push((entry.path().strip_prefix(root).unwrap().to_owned(), found.mode()));
            if found.is_dir() {
                folders.push(entry.path());
            }
        }
    }
    modes.sort();
    modes
}

#[test]
fn a_folder_of_many_files_goes_up_and_comes_back() {
    for (profile, files) in [(Profile::Fast, 1000), (Profile::Aws, 100)] {
        let here = here(profile);
        let [near, far, back] = [(); 3].map(|()| TempDir::new().unwrap());
        let original = near.path().join("original");
        fs::create_dir(&original).unwrap();
        tree(&original, files);
        succeed(&mut cp(&here, &original, there(&here, far.path())));
        assert_same_tree(&original, &far.path().join("original"));
        let copy = back.path().join("copy");
        succeed(&mut cp(&here, there(&here, &far.path().join("original")), &copy));
        assert_same_tree(&original, &copy);
        assert_names(far.path(), &["original"]);
        assert_names(back.path(), &["copy"]);
    }
}

#[test]
fn a_folder_that_is_there_is_added_to() {
    let here = here(Profile::Fast);
    let [near, far] = [(); 2].map(|()| TempDir::new().unwrap());
    for (root, name) in [(&near, "new"), (&near, "both"), (&far, "both"), (&far, "old")] {
        fs::create_dir_all(root.path().join("d/sub")).unwrap();
        fs::write(root.path().join("d/sub").join(name), root.path().as_os_str().as_encoded_bytes()).unwrap();
    }
    let content = |root: &TempDir, name: &str| fs::read(root.path().join("d/sub").join(name)).unwrap();
    succeed(&mut cp(&here, near.path().join("d"), there(&here, far.path())));
    assert_names(&far.path().join("d/sub"), &["both", "new", "old"]);
    assert_eq!(content(&far, "both"), content(&near, "both"));
    fs::write(far.path().join("d/sub/both"), "again").unwrap();
    succeed(&mut cp(&here, there(&here, &far.path().join("d/.")), near.path().join("d")));
    assert_names(&near.path().join("d/sub"), &["both", "new", "old"]);
    assert_eq!(content(&near, "both"), b"again");
    assert_names(&near.path().join("d"), &["sub"]);
}

#[test]
fn nothing_is_written_through_a_link_that_is_in_the_way() {
    let here = here(Profile::Fast);
    let [near, far, outside] = [(); 3].map(|()| TempDir::new().unwrap());
    fs::create_dir_all(near.path().join("d/sub")).unwrap();
    for name in ["sub/x", "y"] {
        fs::write(near.path().join("d").join(name), "x").unwrap();
    }
    fs::create_dir(far.path().join("d")).unwrap();
    symlink(outside.path(), far.path().join("d/sub")).unwrap();
    for command in [
        &mut cp(&here, near.path().join("d"), there(&here, far.path())),
        &mut cp(&here, there(&here, &near.path().join("d")), far.path()),
    ] {
        let outcome = run(command);
        assert_eq!(outcome.status.code(), Some(1), "{outcome:?}");
        assert!(outcome.stderr.contains("in the way"), "{outcome:?}");
        assert!(!far.path().join("d/y").exists());
        assert_names(outside.path(), &[]);
    }
}

#[test]
fn an_interrupted_copy_goes_on_where_it_stopped() {
    let here = here(Profile::Aws);
    let [near, far] = [(); 2].map(|()| TempDir::new().unwrap());
    let original = near.path().join("original");
    write(&original, &bytes(3_200_000), 0o600);
    let before = b"what was there before";
    let copies: [(PathBuf, Box<dyn Fn() -> Command>); 2] = [
        (far.path().join("up"), Box::new(|| cp(&here, &original, there(&here, &far.path().join("up"))))),
        (far.path().join("down"), Box::new(|| cp(&here, there(&here, &original), far.path().join("down")))),
    ];
    for (copy, command) in copies {
        fs::write(&copy, before).unwrap();
        let part = far.path().join(format!(".{}.ssm-part", copy.file_name().unwrap().to_str().unwrap()));
        let mut program = Program::start(&mut command());
        let half = || fs::metadata(&part).is_ok_and(|found| found.len() > 500_000).then_some(());
        program.wait_for(|_| half());
        program.signal(Signal::INT);
        let outcome = program.wait();
        assert_eq!(outcome.status.code(), Some(130), "{outcome:?}");
        assert!(outcome.stderr.contains("goes on where it stopped"), "{outcome:?}");
        assert!(fs::read(&copy).unwrap() == before, "the copy was put into place");
        assert!(fs::metadata(&part).unwrap().len() < 3_200_000);
        let outcome = succeed(&mut command());
        assert!(outcome.stderr.contains("going on at "), "{outcome:?}");
        assert_same(&original, &copy);
        assert!(!part.exists());
    }
}

#[test]
fn a_part_of_something_else_is_not_gone_on_with() {
    let here = here(Profile::Fast);
    let [near, far] = [(); 2].map(|()| TempDir::new().unwrap());
    let original = near.path().join("original");
    write(&original, &bytes(100_000), 0o600);
    for (from, to) in [
        (original.clone().into_os_string(), there(&here, &far.path().join("copy"))),
        (there(&here, &original), far.path().join("copy").into_os_string()),
    ] {
        for part in [vec![0; 50_000], bytes(200_000)] {
            fs::write(far.path().join(".copy.ssm-part"), part).unwrap();
            let outcome = succeed(&mut cp(&here, &from, &to));
            assert!(!outcome.stderr.contains("going on"), "{outcome:?}");
            assert_same(&original, &far.path().join("copy"));
            assert_names(far.path(), &["copy"]);
        }
    }
}

#[test]
fn what_cannot_be_is_said_and_changes_nothing() {
    let here = here(Profile::Fast);
    let folder = TempDir::new().unwrap();
    let path = |name: &str| folder.path().join(name);
    write(&path("file"), b"x", 0o600);
    fs::create_dir(path("folder")).unwrap();
    fs::create_dir(path("folder/file")).unwrap();
    for (from, to, code, said) in [
        (path("file").into_os_string(), path("other").into_os_string(), 2, "cp copies here"),
        (there(&here, &path("a")), there(&here, &path("b")), 2, "both are on machines"),
        (":x".into(), path("x").into_os_string(), 2, "no target"),
        (path("none").into_os_string(), there(&here, &path("x")), 1, "No such file"),
        (there(&here, &path("none")), path("x").into_os_string(), 1, "there is no /"),
        (path("file").into_os_string(), there(&here, &path("none/x")), 1, "there is no folder"),
        (path("file").into_os_string(), there(&here, &path("none/")), 1, "there is no folder"),
        (there(&here, &path("file")), path("none/").into_os_string(), 1, "there is no folder"),
        (path("file").into_os_string(), there(&here, &path("folder")), 1, "is a folder"),
        (there(&here, &path("file")), path("folder").into_os_string(), 1, "in the way"),
        (path("folder").into_os_string(), there(&here, &path("file")), 1, "is no folder"),
        (there(&here, &path("folder")), path("file").into_os_string(), 1, "in the way"),
    ] {
        let outcome = run(&mut cp(&here, &from, &to));
        assert_eq!(outcome.status.code(), Some(code), "{from:?} {to:?}: {outcome:?}");
        assert!(outcome.stderr.contains(said), "{from:?} {to:?}: {outcome:?}");
        assert_names(folder.path(), &["file", "folder"]);
    }
}

#[test]
fn a_machine_with_few_programs_will_do() {
    let needed = [
        "sh", "stty", "base64", "head", "dd", "mkdir", "mkfifo", "rm", "cat", "chmod", "mv", "touch", "wc",
        "tail",
    ];
    let [near, far, bin] = [(); 3].map(|()| TempDir::new().unwrap());
    let busybox = Path::new("/bin/busybox");
    assert!(busybox.exists(), "run cargo xtask setup");
    for name in needed.iter().chain(&["tar", "stat"]) {
        symlink(busybox, bin.path().join(name)).unwrap();
    }
    // Debian's busybox has none.
    symlink("/usr/bin/cksum", bin.path().join("cksum")).unwrap();
    let served = Served::with(|command| {
        command.env("PATH", bin.path());
    });
    let cp = |from: &str, to: &str| {
        let outcome = run(&mut served.ssm(&["cp", from, to]));
        assert!(outcome.status.success(), "{outcome:?}");
        assert!(outcome.stderr.contains("compared by cksum"), "{outcome:?}");
    };
    write(&near.path().join("file"), &bytes(200_000), 0o640);
    fs::create_dir(near.path().join("tree")).unwrap();
    tree(&near.path().join("tree"), 100);
    for name in ["file", "tree"] {
        let path = |folder: &TempDir, name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        let far_path = format!("{}:{}", served.target, path(&far, name));
        cp(&path(&near, name), &far_path);
        cp(&far_path, &path(&near, &format!("{name} back")));
    }
    assert_same(&near.path().join("file"), &near.path().join("file back"));
    assert_same_tree(&near.path().join("tree"), &far.path().join("tree"));
    assert_same_tree(&near.path().join("tree"), &near.path().join("tree back"));
    for name in ["tar", "stat", "chmod"] {
        fs::remove_file(bin.path().join(name)).unwrap();
    }
    let file = near.path().join("file");
    let outcome = run(&mut served.ssm(&["cp", file.to_str().unwrap(), &format!("{}:x", served.target)]));
    assert_eq!(outcome.status.code(), Some(1));
    assert!(outcome.stderr.contains("the far side has no chmod"), "{outcome:?}");
}

#[test]
fn progress_is_for_terminals() {
    let here = here(Profile::Aws);
    let [near, far] = [(); 2].map(|()| TempDir::new().unwrap());
    let original = near.path().join("original");
    write(&original, &bytes(400_000), 0o600);
    let command = cp(&here, there(&here, &original), far.path());
    let terminal = OnTerminal::start(&command, 100);
    terminal.until(|text| text.contains("KiB/").then_some(()));
    let outcome = terminal.wait();
    assert!(outcome.status.success(), "{outcome:?}");
    let outcome = succeed(&mut cp(&here, there(&here, &original), far.path()));
    assert_eq!((outcome.stdout.as_str(), outcome.stderr.as_str()), ("", ""));
}
