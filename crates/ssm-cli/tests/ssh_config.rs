//! `ssm ssh-config` and `ssm plugin install`: files of the user's; and what OpenSSH is given.

#![cfg(feature = "demo")]
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod common;

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

use common::{Outcome, Program, SSM, ssm};

#[test]
fn the_block_is_installed_once_and_taken_out_without_a_trace() {
    let home = Home::new();
    let before = b"Host *\n    User me\n\tPort 2200\xff";
    fs::create_dir(home.path(".ssh")).unwrap();
    fs::write(home.path(".ssh/config"), before).unwrap();
    fs::set_permissions(home.path(".ssh/config"), fs::Permissions::from_mode(0o644)).unwrap();
    let outcome = home.run(&["ssh-config", "--install"]);
    assert!(outcome.stdout.is_empty() && outcome.stderr.contains("written into"), "{outcome:?}");
    let printed = home.run(&["ssh-config"]).stdout;
    let installed = fs::read(home.path(".ssh/config")).unwrap();
    assert_eq!(installed, [printed.as_bytes(), before].concat());
    assert_eq!(home.path(".ssh/config").metadata().unwrap().mode() & 0o777, 0o644);
    let inode = home.path(".ssh/config").metadata().unwrap().ino();
    let again = home.run(&["ssh-config", "--install"]);
    assert!(again.stderr.contains("as it should be"), "{again:?}");
    assert_eq!(home.path(".ssh/config").metadata().unwrap().ino(), inode, "it was written for nothing");
    home.run(&["ssh-config", "--remove"]);
    assert_eq!(fs::read(home.path(".ssh/config")).unwrap(), before);
}

#[test]
fn a_new_file_and_its_folder_are_private() {
    let home = Home::new();
    home.run(&["ssh-config", "--install"]);
    assert_eq!(home.path(".ssh").metadata().unwrap().mode() & 0o777, 0o700);
    assert_eq!(home.path(".ssh/config").metadata().unwrap().mode() & 0o777, 0o600);
    let outcome = home.run(&["ssh-config", "--remove"]);
    assert!(outcome.stderr.contains("taken out of"), "{outcome:?}");
    assert_eq!(fs::read(home.path(".ssh/config")).unwrap(), b"");
}

#[test]
fn marks_that_do_not_fit_are_told_with_their_line() {
    let home = Home::new();
    fs::write(home.path("config"), "Host x\n# BEGIN ssm ssh-config\nHost y\n").unwrap();
    let outcome = home.tell(&["ssh-config", "--install", "--file", home.path("config").to_str().unwrap()]);
    assert_eq!(outcome.status.code(), Some(1));
    assert!(outcome.stderr.contains("is left as it is: line 2: "), "{outcome:?}");
    assert_eq!(fs::read_to_string(home.path("config")).unwrap(), "Host x\n# BEGIN ssm ssh-config\nHost y\n");
}

/// OpenSSH is asked, not us.
#[test]
fn ssh_reads_the_block_as_it_is_meant() {
    let home = Home::new();
    home.configure(
        "[alias.web]\ntarget = 'i-0123456789abcdef0'\nuser = 'ec2-user'\n[alias.role]\ntarget = 'tag:role=web'\n",
    );
    fs::create_dir(home.path(".ssh")).unwrap();
    fs::write(home.path(".ssh/config"), "ForwardAgent yes\nHost *\n    User everybody\n").unwrap();
    home.run(&["ssh-config", "--install", "--profile", "it's 100%", "--region", "eu-west-1"]);
    for (host, user, alias, target) in [
        ("i-0123456789abcdef0", "everybody", None, "%h"),
        ("mi-0123456789abcdef0", "everybody", None, "%h"),
        ("web", "ec2-user", Some("i-0123456789abcdef0"), "web"),
        ("role", "everybody", None, "role"),
    ] {
        let read = home.ssh_reads(host);
        let value = |key: &str| read.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '));
        assert_eq!(value("user"), Some(user), "{read}");
        assert_eq!(value("hostkeyalias"), alias, "{read}");
        let proxy = value("proxycommand").unwrap();
        let expected = format!(
            "{SSM} --config={} proxy '--profile=it'\\''s 100%%' --region=eu-west-1 {target} %p",
            home.path("ssm.toml").display()
        );
        assert_eq!(proxy, expected);
        assert_eq!(value("forwardagent"), Some("yes"), "what is in front of the first Host is for all");
    }
    let own = home.path(".ssh/ssm");
    fs::write(&own, home.run(&["ssh-config"]).stdout).unwrap();
    fs::write(home.path(".ssh/config"), format!("Include {}\nForwardAgent yes\n", own.display())).unwrap();
    let read = home.ssh_reads("web");
    assert!(read.contains("proxycommand ") && read.contains("forwardagent yes"), "{read}");
    for other in ["example.com", "i-robot.example.com"] {
        assert!(!home.ssh_reads(other).contains("proxycommand"), "{other}");
    }
}

#[test]
fn a_key_that_stays_is_sent_by_every_login_but_to_managed_nodes() {
    let home = Home::new();
    let (public, private) = (home.path("k y.pub"), home.path("k y"));
    fs::write(&public, "ssh-ed25519 AAAA\n").unwrap();
    fs::write(&private, "").unwrap();
    let wrong = home.tell(&["ssh-config", "--send-key"]);
    assert!(wrong.stderr.contains("--key FILE.pub"), "{wrong:?}");
    home.run(&["ssh-config", "--install", "--send-key", "--key", public.to_str().unwrap()]);
    let read = home.ssh_reads("i-0123456789abcdef0");
    assert!(read.contains(&format!("identityfile {}\n", private.display())), "{read}");
    assert!(read.contains(&format!("--send-key '--key={}' '%r'@%h %p", public.display())), "{read}");
    assert!(!home.ssh_reads("mi-0123456789abcdef0").contains("--send-key"));
}

#[test]
fn the_plugin_is_installed_and_what_was_there_comes_back() {
    let home = Home::new();
    let (first, second) = (home.path("first"), home.path("second"));
    for folder in [&first, &second] {
        fs::create_dir(folder).unwrap();
        fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let theirs = second.join("session-manager-plugin");
    fs::write(&theirs, "#!/bin/sh\necho 1.2.3.4\n").unwrap();
    fs::set_permissions(&theirs, fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}:/usr/bin:/bin", first.display(), second.display());
    let plugin =
        |words: &[&str]| Program::start(home.ssm(&[&["plugin"], words].concat()).env("PATH", &path)).wait();

    let status = plugin(&["status"]);
    assert_eq!(status.status.code(), Some(1), "{status:?}");
    assert_eq!(
        status.stdout,
        format!("{}  another program, 1.2.3.4, used by the AWS CLI\n", theirs.display())
    );
    let in_second = ["--dir", second.to_str().unwrap()];
    let refused = plugin(&[&["install"], &in_second[..]].concat());
    assert_eq!(refused.status.code(), Some(1));
    assert!(refused.stderr.contains("--force"), "{refused:?}");
    let forced = plugin(&[&["install", "--force"], &in_second[..]].concat());
    assert!(forced.status.success() && forced.stderr.contains("ssm plugin uninstall"), "{forced:?}");
    let status = plugin(&["status"]);
    assert!(status.status.success(), "{status:?}");
    assert!(status.stdout.contains("this program, ") && status.stdout.contains("used by"), "{status:?}");

    let outcome = plugin(&["install"]);
    assert!(outcome.status.success(), "{outcome:?}");
    let link = first.join("session-manager-plugin");
    assert_eq!(fs::canonicalize(&link).unwrap(), fs::canonicalize(SSM).unwrap());
    let outcome = Program::start(Command::new(&link).arg("--version")).wait();
    assert!(outcome.status.success() && outcome.stdout.starts_with("1."), "{outcome:?}");
    assert!(plugin(&["uninstall"]).status.success());
    assert!(!link.exists());
    assert!(plugin(&["uninstall"]).stderr.contains("what it was before"));
    assert_eq!(fs::read_to_string(&theirs).unwrap(), "#!/bin/sh\necho 1.2.3.4\n");
    let none = plugin(&["uninstall"]);
    assert_eq!(none.status.code(), Some(1), "{none:?}");
}

#[test]
fn a_plugin_that_does_not_end_or_says_too_much_is_none_with_a_version() {
    let home = Home::new();
    let folders = ["hangs", "floods"].map(|name| home.path(name));
    for (folder, does) in folders.iter().zip(["exec sleep 600", "exec yes 1.2.3.4"]) {
        fs::create_dir(folder).unwrap();
        let plugin = folder.join("session-manager-plugin");
        fs::write(&plugin, format!("#!/bin/sh\n{does}\n")).unwrap();
        fs::set_permissions(&plugin, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let path = format!("{}:{}:/usr/bin:/bin", folders[0].display(), folders[1].display());
    let status = Program::start(home.ssm(&["plugin", "status"]).env("PATH", &path)).wait();
    assert_eq!(status.status.code(), Some(1), "{status:?}");
    assert_eq!(status.stdout.matches("another program, no version, ").count(), 2, "{status:?}");
}

#[test]
fn a_folder_outside_of_path_is_made_and_told() {
    let home = Home::new();
    let mut command = home.ssm(&["plugin", "install"]);
    let outcome = Program::start(command.env("PATH", "/nowhere")).wait();
    assert!(outcome.status.success(), "{outcome:?}");
    assert!(outcome.stderr.contains(".local/bin is not in PATH"), "{outcome:?}");
    assert!(home.path(".local/bin/session-manager-plugin").is_symlink());
}

#[test]
fn scp_between_machines_goes_by_their_ids() {
    let home = Home::new();
    home.configure(
        "[alias.web]\ntarget = 'i-0123456789abcdef0'\nuser = 'me'\n\
         [alias.far]\ntarget = 'i-0fedcba9876543210'\nprofile = 'other'\n",
    );
    let ssm_itself = format!("{SSM} --config={} proxy", home.path("ssm.toml").display());
    let given = home.scp(&["-3", "web:a b", "you@i-0fedcba9876543210:", "--region", "eu-west-1"]);
    assert_eq!(
        given,
        [
            "-3",
            "-o",
            &format!("ProxyCommand={ssm_itself} --region=eu-west-1 %h %p"),
            "--",
            "me@i-0123456789abcdef0:a b",
            "you@i-0fedcba9876543210:"
        ]
    );
    let given = home.scp(&["-r", "web:a", "i-0123456789abcdef0:b", "/c:d", "./e:f"]);
    assert_eq!(
        given,
        [
            "-r",
            "-o",
            &format!("ProxyCommand={ssm_itself} i-0123456789abcdef0 %p"),
            "-o",
            "HostName=i-0123456789abcdef0",
            "-o",
            "HostKeyAlias=i-0123456789abcdef0",
            "--",
            "me@web:a",
            "web:b",
            "/c:d",
            "./e:f"
        ]
    );
    assert_eq!(home.scp(&["-q", "a", "b"]), ["-q", "--", "a", "b"], "nothing is on a machine");
    let apart = home.tell(&["scp", "web:a", "far:b"]);
    assert_eq!(apart.status.code(), Some(2));
    assert!(apart.stderr.contains("copy in two steps"), "{apart:?}");
}

#[test]
fn a_program_is_known_by_the_name_it_was_called_by() {
    let home = Home::new();
    let odd = home.path("a b's 100% $(x)");
    fs::create_dir(&odd).unwrap();
    symlink(SSM, odd.join("ssm")).unwrap();
    let mut command = Command::new(odd.join("ssm"));
    let outcome =
        Program::start(command.arg("ssh-config").env("HOME", home.path("")).env("SSM_CONFIG", "/dev/null"))
            .wait();
    let quoted = odd.to_str().unwrap().replace('\'', "'\\''").replace('%', "%%");
    assert!(outcome.stdout.contains(&format!("ProxyCommand '{quoted}/ssm' proxy %h %p\n")), "{outcome:?}");
}

/// A home folder, and a configuration.
struct Home {
    folder: TempDir,
}

impl Home {
    fn new() -> Self {
        let home = Self { folder: TempDir::new().unwrap() };
        home.configure("");
        home
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn configure(&self, text: &str) {
        fs::write(self.path("ssm.toml"), text).unwrap();
    }

    fn ssm(&self, words: &[&str]) -> Command {
        let config = self.path("ssm.toml");
        let mut command = ssm(&["--config", config.to_str().unwrap()]);
        command.args(words).env("HOME", self.folder.path());
        command
    }

    fn tell(&self, words: &[&str]) -> Outcome {
        Program::start(&mut self.ssm(words)).wait()
    }

    fn run(&self, words: &[&str]) -> Outcome {
        let outcome = self.tell(words);
        assert!(outcome.status.success(), "{outcome:?}");
        outcome
    }

    /// What scp is given for these words.
    fn scp(&self, words: &[&str]) -> Vec<String> {
        let scp = self.path("scp");
        fs::write(&scp, "#!/bin/sh\nprintf '%s\\n' \"$@\"\n").unwrap();
        fs::set_permissions(&scp, fs::Permissions::from_mode(0o755)).unwrap();
        let path = format!("{}:/usr/bin:/bin", self.folder.path().display());
        let outcome = Program::start(self.ssm(&[&["scp"], words].concat()).env("PATH", path)).wait();
        assert!(outcome.status.success(), "{outcome:?}");
        outcome.stdout.lines().map(Into::into).collect()
    }

    /// What ssh makes of its configuration for a host.
    fn ssh_reads(&self, host: &str) -> String {
        let outcome =
            Program::start(Command::new("ssh").arg("-G").arg("-F").arg(self.path(".ssh/config")).arg(host))
                .wait();
        assert!(outcome.status.success(), "{outcome:?}");
        outcome.stdout
    }
}
