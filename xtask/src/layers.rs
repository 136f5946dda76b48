//! The architecture as tables: which of our crates may use which, and what may never be under them.
//!
//! A new edge is a reviewed change of [`NORMAL`] or [`DEV`]. A row without an edge fails as well, so that the tables
//! stay a true picture.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::process::{Failure, cargo, stdout};
use crate::workspace::Workspace;

/// `from` uses each of `to`.
struct Row {
    from: &'static str,
    to: &'static [&'static str],
    /// The part of `to` that only a feature brings in.
    optional: &'static [&'static str],
}

/// What each crate is built on.
const NORMAL: &[Row] = &[
    Row { from: "ssm-proto", to: &[], optional: &[] },
    Row { from: "ssm-smux", to: &[], optional: &[] },
    Row { from: "ssm-resolve", to: &[], optional: &[] },
    Row { from: "ssm-channel", to: &["ssm-proto"], optional: &[] },
    Row { from: "ssm-session", to: &["ssm-channel", "ssm-proto"], optional: &[] },
    Row { from: "ssm-portfwd", to: &["ssm-session", "ssm-smux"], optional: &[] },
    Row { from: "ssm-shell", to: &["ssm-session"], optional: &[] },
    Row { from: "ssm-loopback", to: &["ssm-session", "ssm-channel", "ssm-smux", "ssm-proto"], optional: &[] },
    Row {
        from: "ssm-cli",
        // The codec for `ssm decode`, which prints frames.
        to: &["ssm-portfwd", "ssm-shell", "ssm-resolve", "ssm-session", "ssm-proto", "ssm-loopback"],
        optional: &["ssm-loopback"],
    },
    Row { from: "xtask", to: &[], optional: &[] },
];

/// What tests and benches of a crate use on top.
const DEV: &[Row] = &[
    // Some on themselves: with features that are off by default. The simulation has the multiplexer on top.
    Row { from: "ssm-channel", to: &["ssm-channel", "ssm-smux"], optional: &[] },
    Row { from: "ssm-portfwd", to: &["ssm-loopback", "ssm-portfwd"], optional: &[] },
    Row { from: "ssm-shell", to: &["ssm-loopback"], optional: &[] },
    Row { from: "ssm-resolve", to: &["ssm-resolve"], optional: &[] },
];

/// A part of the dependency tree and what must not be in it.
struct Rule {
    claim: &'static str,
    /// Arguments of `cargo tree`.
    tree: &'static str,
    /// Crate names; a trailing `*` stands for any ending.
    forbidden: &'static [&'static str],
}

const ASYNC_AND_IO: &[&str] = &[
    "tokio",
    "mio",
    "async-std",
    "smol",
    "aws-*",
    "tokio-tungstenite",
    "tungstenite",
    "rustls",
    "getrandom",
];

const RULES: &[Rule] = &[
    Rule {
        claim: "the state machines use no runtime, socket, TLS or OS randomness",
        tree: "-e normal,build -p ssm-proto -p ssm-channel -p ssm-smux",
        forbidden: ASYNC_AND_IO,
    },
    Rule {
        claim: "targets are read, and looked up by steps of one's own, without runtime and SDK",
        tree: "-e normal,build -p ssm-resolve",
        forbidden: ASYNC_AND_IO,
    },
    Rule {
        claim: "the state machines are tested without tokio and without the AWS SDK",
        tree: "-e normal,build,dev -p ssm-proto -p ssm-channel -p ssm-smux",
        forbidden: &["tokio", "mio", "aws-*"],
    },
    Rule {
        claim: "no library has a default feature that brings the AWS SDK",
        tree: "-e normal,build,dev --workspace --exclude ssm-cli",
        forbidden: AWS_SDK,
    },
    Rule {
        claim: "the demo is built without the AWS SDK",
        tree: "-e normal,build -p ssm-cli --no-default-features --features demo",
        forbidden: AWS_SDK,
    },
    Rule {
        claim: "rustls on ring is the only TLS stack",
        tree: "-e normal,build,dev --workspace --all-features --target all",
        forbidden: &["aws-lc-rs", "aws-lc-sys", "openssl", "openssl-sys", "native-tls", "boring"],
    },
];

const AWS_SDK: &[&str] = &["aws-sdk-*", "aws-config", "aws-smithy-http-client"];

/// Compares the manifests with both tables.
///
/// # Errors
/// Names every edge that has no row and every row that has no edge.
pub(crate) fn check_edges(workspace: &Workspace) -> Result<(), Failure> {
    let mut problems =
        differences("[dependencies]", "NORMAL", &table(NORMAL), &edges(&workspace.packages, None));
    let dev = edges(&workspace.packages, Some("dev"));
    problems.extend(differences("[dev-dependencies]", "DEV", &table(DEV), &dev));
    let build = edges(&workspace.packages, Some("build"));
    problems.extend(differences("[build-dependencies]", "none", &BTreeSet::new(), &build));
    as_result(problems)
}

/// Walks the dependency trees for what they must not hold.
///
/// # Errors
/// Names every crate found where a rule forbids it, with the command that shows how it got there.
pub(crate) fn check_trees(workspace: &Workspace) -> Result<(), Failure> {
    let mut problems = Vec::new();
    for rule in RULES {
        for name in names(&tree(workspace, rule.tree)?) {
            if rule.forbidden.iter().any(|pattern| matches(pattern, name)) {
                let Rule { claim, tree, .. } = rule;
                problems.push(format!("{claim}: found {name}; see `cargo tree {tree} -i {name}`"));
            }
        }
    }
    let everything = tree(workspace, "-e normal,build,dev --workspace --all-features")?;
    let rustls = versions(&everything, "rustls");
    if rustls.len() != 1 {
        problems.push(format!("there is one version of rustls: found {rustls:?}"));
    }
    as_result(problems)
}

/// One dependency of one of our crates on another.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Edge {
    from: String,
    to: String,
    presence: Presence,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Presence {
    Always,
    ByFeature,
}

impl Edge {
    fn new(from: &str, to: &str, by_feature: bool) -> Self {
        let presence = if by_feature { Presence::ByFeature } else { Presence::Always };
        Self { from: from.to_owned(), to: to.to_owned(), presence }
    }

    fn describe(&self) -> String {
        let optional = if self.presence == Presence::ByFeature { " (optional)" } else { "" };
        format!("{} -> {}{optional}", self.from, self.to)
    }
}

fn table(rows: &[Row]) -> BTreeSet<Edge> {
    let edges = rows
        .iter()
        .flat_map(|row| row.to.iter().map(|to| Edge::new(row.from, to, row.optional.contains(to))));
    edges.collect()
}

/// Edges between workspace members of one kind: `None` is a normal dependency, as `cargo metadata` has it.
fn edges(packages: &[Value], kind: Option<&str>) -> BTreeSet<Edge> {
    let mut found = BTreeSet::new();
    for package in packages {
        let from = package["name"].as_str().unwrap_or_default();
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let is_ours = dependency["path"].is_string();
            if is_ours && dependency["kind"].as_str() == kind {
                let by_feature = dependency["optional"].as_bool().unwrap_or(false);
                found.insert(Edge::new(from, dependency["name"].as_str().unwrap_or_default(), by_feature));
            }
        }
    }
    found
}

fn differences(section: &str, table: &str, allowed: &BTreeSet<Edge>, found: &BTreeSet<Edge>) -> Vec<String> {
    let unknown = found.difference(allowed).map(|edge| {
        format!(
            "{section} has {}, which table {table} of xtask/src/layers.rs does not allow",
            edge.describe()
        )
    });
    let unused = allowed.difference(found).map(|edge| {
        format!(
            "table {table} of xtask/src/layers.rs has {}, but {section} does not: drop the row",
            edge.describe()
        )
    });
    unknown.chain(unused).collect()
}

/// `cargo tree` as one `name version` a line, without the drawing.
fn tree(workspace: &Workspace, arguments: &str) -> Result<String, Failure> {
    let mut tree = cargo(&workspace.root);
    stdout(tree.args(["tree", "--locked", "--prefix", "none"]).args(arguments.split(' ')))
}

fn names(tree: &str) -> BTreeSet<&str> {
    tree.lines().filter_map(|line| line.split(' ').next()).filter(|name| !name.is_empty()).collect()
}

/// The versions of one crate. A crate that was listed before ends in `(*)`.
fn versions<'a>(tree: &'a str, name: &str) -> BTreeSet<&'a str> {
    let lines = tree.lines().filter_map(|line| line.split_once(' '));
    let ours = lines.filter(|(found, _)| *found == name);
    ours.filter_map(|(_, rest)| rest.split(' ').next()).collect()
}

fn matches(pattern: &str, name: &str) -> bool {
    pattern.strip_suffix('*').map_or(pattern == name, |start| name.starts_with(start))
}

fn as_result(problems: Vec<String>) -> Result<(), Failure> {
    if problems.is_empty() { Ok(()) } else { Err(Failure::new(problems.join("\n       "))) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_edge_outside_the_table_is_named() {
        let packages = [json!({ "name": "ssm-proto", "dependencies": [
            { "name": "bytes", "kind": null, "optional": false },
            { "name": "ssm-cli", "kind": null, "optional": false, "path": "/x" },
        ]})];
        let problems = differences("[dependencies]", "NORMAL", &BTreeSet::new(), &edges(&packages, None));
        assert_eq!(problems.len(), 1);
        assert!(problems[0].starts_with("[dependencies] has ssm-proto -> ssm-cli, which"), "{problems:?}");
    }

    #[test]
    fn a_row_without_an_edge_is_named() {
        let row = Row { from: "ssm-portfwd", to: &["ssm-loopback"], optional: &[] };
        let problems = differences("[dev-dependencies]", "DEV", &table(&[row]), &BTreeSet::new());
        assert_eq!(problems.len(), 1);
        assert!(problems[0].contains("has ssm-portfwd -> ssm-loopback, but"), "{problems:?}");
    }

    #[test]
    fn an_optional_edge_differs_from_one_that_is_always_there() {
        let packages = [json!({ "name": "ssm-cli", "dependencies": [
            { "name": "ssm-loopback", "kind": null, "optional": false, "path": "/x" },
        ]})];
        let row = Row { from: "ssm-cli", to: &["ssm-loopback"], optional: &["ssm-loopback"] };
        let problems = differences("[dependencies]", "NORMAL", &table(&[row]), &edges(&packages, None));
        assert_eq!(problems.len(), 2, "{problems:?}");
    }

    #[test]
    fn a_dev_dependency_is_no_normal_edge() {
        let packages = [json!({ "name": "ssm-shell", "dependencies": [
            { "name": "ssm-loopback", "kind": "dev", "optional": false, "path": "/x" },
        ]})];
        assert!(edges(&packages, None).is_empty());
        assert_eq!(edges(&packages, Some("dev")).len(), 1);
    }

    #[test]
    fn a_star_stands_for_any_ending() {
        assert!(matches("aws-sdk-*", "aws-sdk-ssm"));
        assert!(!matches("aws-sdk-*", "aws-sigv4"));
        assert!(!matches("tokio", "tokio-util"));
    }

    #[test]
    fn names_are_the_first_words_of_the_tree() {
        let tree = "ssm-proto v0.1.0 (/x)\nbytes v1.12.1\n\nbytes v1.12.1 (*)\n";
        assert_eq!(names(tree).into_iter().collect::<Vec<_>>(), ["bytes", "ssm-proto"]);
    }

    #[test]
    fn a_crate_listed_twice_has_one_version() {
        let tree = "rustls v0.23.4\nrustls v0.23.4 (*)\nrustls-pki-types v1.0.0\n";
        assert_eq!(versions(tree, "rustls").into_iter().collect::<Vec<_>>(), ["v0.23.4"]);
        assert_eq!(versions("rustls v0.21.0\nrustls v0.23.4\n", "rustls").len(), 2);
    }
}
