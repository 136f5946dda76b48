//! `cargo xtask man`: the manual pages, written by the program itself and read by the system's formatter.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use crate::process::{Failure, cargo, command, run as run_command};
use crate::workspace::Workspace;

/// What the formatter is asked to complain about.
const WARNINGS: &str = "--warnings=mac,reg,scale,syntax";

/// Writes the pages into `target/man` and checks them, where there is something to check them with.
pub(crate) fn run(workspace: &Workspace) -> Result<(), Failure> {
    let folder = workspace.root.join("target").join("man");
    let mut ssm = cargo(&workspace.root);
    ssm.args(["run", "--quiet", "--locked", "--package", "ssm-cli", "--", "man"]);
    run_command(ssm.arg(&folder))?;
    let pages =
        fs::read_dir(&folder).map_err(|error| Failure::new(format!("{}: {error}", folder.display())))?;
    let mut count = 0;
    for page in pages.flatten() {
        count += 1;
        check(&page.path(), &folder)?;
    }
    eprintln!("{count} pages in {}", folder.display());
    Ok(())
}

/// A formatter says on stderr what it does not understand, and succeeds.
fn check(page: &Path, folder: &Path) -> Result<(), Failure> {
    let mut man = command("man", folder);
    man.args([WARNINGS, "--local-file"]).arg(page).env("MANWIDTH", "100").env("LC_ALL", "C.UTF-8");
    let Ok(output) = man.stdout(Stdio::null()).stderr(Stdio::piped()).output() else {
        eprintln!("{}: not checked, there is no man", page.display());
        return Ok(());
    };
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.success() && said.trim().is_empty() {
        return Ok(());
    }
    Err(Failure::new(format!("{}: {}: {said}", page.display(), output.status)))
}
