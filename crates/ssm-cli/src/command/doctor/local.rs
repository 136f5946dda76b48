//! This machine, without the network.

use std::env;
use std::io::{self, IsTerminal};
use std::path::Path;

use rustix::process::{Resource, getrlimit};
use rustix::stdio;
use rustix::termios::tcgetwinsize;
use ssm_session::{Network, NetworkError};

use super::outcome::Outcome;
use crate::args::ConnectionArgs;
use crate::config::{Config, ConfigError};
use crate::places;

/// Files that a tunnel with some hundred connections needs.
const FILES_MIN: u64 = 1024;

/// What goes to AWS goes to hosts like this one.
const EXAMPLE_URL: &str = "https://ssm.amazonaws.com";

/// This program.
pub(super) fn version() -> Outcome {
    let parts = [
        ("aws", cfg!(feature = "aws")),
        ("lookup", cfg!(feature = "lookup")),
        ("db", cfg!(feature = "db")),
        ("metrics", cfg!(feature = "metrics")),
        ("demo", cfg!(feature = "demo")),
    ];
    let parts: Vec<&str> = parts.into_iter().filter_map(|(name, is_in)| is_in.then_some(name)).collect();
    let (version, system) = (env!("CARGO_PKG_VERSION"), format!("{} {}", env::consts::OS, env::consts::ARCH));
    let found = format!("{version} for {system}, with {}", parts.join(", "));
    Outcome::ok(found).with("version", version).with("system", system).with("features", parts)
}

/// The configuration file.
pub(super) fn config(config: &Config, mistake: Option<&ConfigError>) -> Outcome {
    if let Some(mistake) = mistake {
        let advice = "put it right: other commands refuse to start, and what follows goes without it";
        return Outcome::fail(mistake.to_string(), advice);
    }
    let count = |number: usize, one: &str, several: &str| {
        format!("{number} {}", if number == 1 { one } else { several })
    };
    match &config.path {
        Some(path) if path.exists() => {
            let aliases = count(config.file.aliases.len(), "alias", "aliases");
            let groups = count(config.file.groups.len(), "group", "groups");
            Outcome::ok(format!("{}, with {aliases} and {groups}", path.display())).with("path", shown(path))
        }
        Some(path) => Outcome::ok(format!("none; it would be {}", path.display())).with("path", shown(path)),
        None => Outcome::ok("none, and no home folder for one"),
    }
}

/// Where sockets and logs of tunnels are kept.
pub(super) fn folders() -> Outcome {
    match (places::runtime_folder(), places::state_folder()) {
        (Ok(runtime), Ok(state)) => Outcome::ok(format!("{} and {}", runtime.display(), state.display()))
            .with("runtime", shown(&runtime))
            .with("state", shown(&state)),
        (Err(error), _) | (_, Err(error)) => Outcome::warn(
            error.to_string(),
            "tunnels in the background, `ssm tunnels` and `ssm up` need a folder of your own there",
        ),
    }
}

/// How many connections a tunnel can have. The soft limit has been raised to the hard one.
pub(super) fn open_files() -> Outcome {
    let limit = getrlimit(Resource::Nofile).current;
    match limit {
        Some(limit) if limit < FILES_MIN => {
            let advice =
                "every connection of a tunnel is one: raise the hard limit, as in /etc/security/limits.conf";
            Outcome::warn(format!("at most {limit}"), advice)
        }
        Some(limit) => Outcome::ok(format!("at most {limit}")),
        None => Outcome::ok("as many as there are"),
    }
    .with("limit", limit)
}

/// Proxies and certificates.
pub(super) async fn network(connection: &ConnectionArgs) -> Outcome {
    #[cfg(feature = "aws")]
    let options = crate::options::network(connection).await;
    #[cfg(not(feature = "aws"))]
    let options = crate::network::options(connection);
    let options = match options {
        Ok(options) => options,
        Err(error) => {
            return Outcome::fail(error.to_string(), "nothing goes out until the proxy is put right");
        }
    };
    let network = match Network::new(&options) {
        Ok(network) => network,
        Err(error) => {
            let advice = match error {
                NetworkError::CaBundle { .. } => {
                    "AWS_CA_BUNDLE and --ca-bundle name a file of PEM certificates"
                }
                _ => "nothing goes out until the variable is put right",
            };
            return Outcome::fail(error.to_string(), advice);
        }
    };
    let proxy = network.proxy_for(EXAMPLE_URL);
    let way = proxy.as_ref().map_or_else(|| "no proxy".into(), |proxy| format!("through {proxy}"));
    let outcome = match &options.ca_bundle {
        Some(path) => {
            Outcome::ok(format!("{way}; certificates of {} in place of the system's", path.display()))
                .with("ca_bundle", shown(path))
        }
        None => match ssm_session::system_roots() {
            0 => Outcome::fail(
                format!("{way}; the system has no certificates of authorities"),
                "install them (the package ca-certificates), or name a file of them in AWS_CA_BUNDLE",
            ),
            roots => Outcome::ok(format!("{way}; {roots} authorities of the system")).with("roots", roots),
        },
    };
    outcome.with("proxy", proxy)
}

/// Where the terminal of a machine is shown.
pub(super) fn terminal() -> Outcome {
    let variable = |name: &str| env::var(name).ok().filter(|value| !value.is_empty());
    let size = tcgetwinsize(stdio::stdout()).or_else(|_| tcgetwinsize(stdio::stdin()));
    judge(&Terminal {
        stdin: io::stdin().is_terminal(),
        stdout: io::stdout().is_terminal(),
        kind: variable("TERM"),
        size: size.ok().map(|size| (size.ws_col, size.ws_row)),
        locale: variable("LC_ALL").or_else(|| variable("LC_CTYPE")).or_else(|| variable("LANG")),
    })
}

struct Terminal {
    stdin: bool,
    stdout: bool,
    kind: Option<String>,
    size: Option<(u16, u16)>,
    locale: Option<String>,
}

fn judge(terminal: &Terminal) -> Outcome {
    let Terminal { stdin, stdout, .. } = *terminal;
    let kind = terminal.kind.as_deref().unwrap_or("-");
    let locale = terminal.locale.as_deref().unwrap_or("-");
    let is_utf8 = locale.to_ascii_lowercase().replace('-', "").contains("utf8");
    let outcome = match (stdin, stdout) {
        (false, false) => Outcome::ok("neither stdin nor stdout is one: shells run on pipes"),
        (true, false) => Outcome::ok("stdout is none: what a machine prints goes there as it is"),
        (false, true) => Outcome::ok("stdin is none: what it holds is typed"),
        (true, true) => match terminal.size {
            _ if matches!(kind, "-" | "dumb") => Outcome::warn(
                format!("TERM is {kind}"),
                "machines draw for an xterm: set TERM to what the terminal is, xterm-256color for one",
            ),
            Some((0, _) | (_, 0)) | None => {
                Outcome::warn("its size is not known", "set it: stty rows 24 cols 80")
            }
            Some(_) if !is_utf8 => Outcome::warn(
                format!("the locale {locale} is not UTF-8, which machines write"),
                "set LANG to one that is: C.UTF-8, or that of your language",
            ),
            Some((columns, rows)) => Outcome::ok(format!("{kind}, {columns}x{rows}, {locale}")),
        },
    };
    outcome
        .with("stdin", stdin)
        .with("stdout", stdout)
        .with("term", terminal.kind.clone())
        .with("utf8", is_utf8)
}

fn shown(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::verdict::Verdict;

    #[test]
    fn a_terminal_is_judged_only_where_there_is_one() {
        let judged = |stdin, kind: &str, size, locale: &str| {
            let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
            let outcome =
                judge(&Terminal { stdin, stdout: true, kind: some(kind), size, locale: some(locale) });
            (outcome.verdict, outcome.found)
        };
        let size = Some((80, 24));
        assert_eq!(judged(true, "xterm", size, "C.UTF-8"), (Verdict::Ok, "xterm, 80x24, C.UTF-8".into()));
        assert_eq!(judged(true, "xterm", size, "de_DE.utf8").0, Verdict::Ok);
        for (kind, size, locale) in [
            ("", size, "C.UTF-8"),
            ("dumb", size, "C.UTF-8"),
            ("xterm", Some((0, 0)), "C.UTF-8"),
            ("xterm", None, "C.UTF-8"),
            ("xterm", size, "POSIX"),
            ("xterm", size, ""),
        ] {
            assert_eq!(judged(true, kind, size, locale).0, Verdict::Warn, "{kind} {size:?} {locale}");
            assert_eq!(judged(false, kind, size, locale).0, Verdict::Ok);
        }
    }
}
