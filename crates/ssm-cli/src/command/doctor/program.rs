//! Programs on this machine that have to do with sessions.

use std::env;
use std::path::PathBuf;

use super::outcome::{Finding, Outcome};
use crate::process;
use crate::version::says;

/// From here on the AWS CLI does not call a plugin outdated (AWS CLI `sessionmanager.py`), and AWS supports it.
const PLUGIN_SINCE: [u64; 4] = [1, 2, 764, 0];

/// The AWS CLI, which nothing here needs.
pub(super) async fn aws_cli() -> Finding {
    let Some(path) = find("aws") else {
        return Ok(Outcome::skip("there is no AWS CLI on PATH, and nothing here needs it"));
    };
    let said = says(&path, "--version").await.map_err(|why| {
        Outcome::warn(format!("{}: {why}", path.display()), "see what `aws --version` says")
    })?;
    let version = said.split_whitespace().next().unwrap_or_default();
    Ok(Outcome::ok(format!("{version}, {}", path.display())).with("version", version))
}

/// What the AWS CLI starts for sessions.
pub(super) async fn plugin() -> Finding {
    const NAME: &str = "session-manager-plugin";
    let Some(path) = find(NAME) else {
        return Ok(match find("aws") {
            None => Outcome::skip(format!("there is no {NAME} on PATH, and no AWS CLI that could need it")),
            Some(_) => Outcome::warn(
                format!("there is no {NAME} on PATH, so the AWS CLI has no sessions"),
                "let this program be it: ssm plugin install",
            ),
        });
    };
    let shown = path.display().to_string();
    let said = says(&path, "--version").await.map_err(|why| {
        Outcome::warn(
            format!("{shown}: {why}"),
            "let this program take its place: ssm plugin install --force",
        )
    })?;
    let is_ours = process::own_path().is_ok_and(|own| process::is_same(&path, &own));
    let whose = if is_ours { "this program" } else { "another program" };
    let outcome = match version(&said) {
        None => Outcome::warn(
            format!("{shown} is {whose}, and says {said:?} for a version"),
            "the AWS CLI compares versions; put a plugin there that has one",
        ),
        Some(number) if number < PLUGIN_SINCE => Outcome::warn(
            format!("{shown} is {whose}: {said}, which the AWS CLI takes for outdated"),
            "let this program take its place: ssm plugin install --force",
        ),
        Some(_) => Outcome::ok(format!("{said}, {shown}, {whose}")),
    };
    Ok(outcome.with("version", said).with("path", shown))
}

/// What `ssm proxy` works for.
pub(super) async fn ssh() -> Finding {
    let Some(path) = find("ssh") else {
        return Ok(Outcome::warn("there is no ssh on PATH", "install OpenSSH for `ssm proxy`"));
    };
    let said = says(&path, "-V")
        .await
        .map_err(|why| Outcome::warn(format!("{}: {why}", path.display()), "see what `ssh -V` says"))?;
    let version = said.split([' ', ',']).next().unwrap_or_default();
    Ok(Outcome::ok(format!("{version}, {}", path.display())).with("version", version))
}

fn find(name: &str) -> Option<PathBuf> {
    process::find(name, &env::var_os("PATH")?)
}

/// As the AWS CLI reads it: up to four numbers.
fn version(text: &str) -> Option<[u64; 4]> {
    let mut numbers = [0; 4];
    let mut parts = text.trim().split('.');
    for number in &mut numbers {
        match parts.next() {
            Some(part) => *number = part.parse().ok()?,
            None => break,
        }
    }
    parts.next().is_none().then_some(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_up_to_four_numbers() {
        assert_eq!(version("1.2.764.0\n"), Some(PLUGIN_SINCE));
        assert_eq!(version("1.2"), Some([1, 2, 0, 0]));
        assert!(version("1.2.677.0").unwrap() < PLUGIN_SINCE && version("1.10").unwrap() > PLUGIN_SINCE);
        for wrong in ["", "1.2.3.4.5", "1.x", "1.2.764.0-rc", "The plugin was installed"] {
            assert_eq!(version(wrong), None, "{wrong}");
        }
    }
}
