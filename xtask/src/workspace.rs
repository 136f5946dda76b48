//! Where the workspace is and what its manifests say, from `cargo metadata`.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::process::{Failure, cargo, stdout};

/// The workspace this task was built in.
pub(crate) struct Workspace {
    pub(crate) root: PathBuf,
    /// Cargo's target folder, wherever the environment put it.
    pub(crate) target: PathBuf,
    /// The members as `cargo metadata --no-deps` lists them: manifests, nothing resolved.
    pub(crate) packages: Vec<Value>,
}

impl Workspace {
    pub(crate) fn locate() -> Result<Self, Failure> {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let json = stdout(cargo(here).args(["metadata", "--format-version", "1", "--no-deps"]))?;
        let metadata: Value = serde_json::from_str(&json).map_err(|error| unreadable(&error.to_string()))?;
        let path = |key: &str| metadata[key].as_str().map(PathBuf::from).ok_or_else(|| unreadable(key));
        Ok(Self {
            root: path("workspace_root")?,
            target: path("target_directory")?,
            packages: metadata["packages"].as_array().cloned().ok_or_else(|| unreadable("packages"))?,
        })
    }

    /// Installed tools and packages the tests use; removed with the target folder.
    pub(crate) fn setup_dir(&self) -> PathBuf {
        self.target.join("setup")
    }

    pub(crate) fn fuzz_dir(&self) -> PathBuf {
        self.root.join("fuzz")
    }
}

fn unreadable(what: &str) -> Failure {
    Failure::new(format!("cannot read the answer of `cargo metadata`: {what}"))
}
