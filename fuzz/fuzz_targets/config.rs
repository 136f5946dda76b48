//! The configuration file: any text gives a configuration or a mistake with a place in it, and what is said about it can be
//! shown to a person.
//!
//! The parser is in a binary, so its modules are taken from there by their path.

#![no_main]
#![allow(dead_code, reason = "the binary uses more of these modules")]
#![allow(unexpected_cfgs, reason = "features of the binary")]
#![allow(unreachable_pub, reason = "the binary's modules are not those of a library")]

use libfuzzer_sys::fuzz_target;

/// Longest input: what is longer only takes longer.
const LEN_MAX: usize = 8 * 1024;

#[path = "../../crates/ssm-cli/src/args"]
mod args {
    mod duration;
    mod endpoint;
    mod limits;
    mod reconnect;

    pub(crate) use self::duration::IntervalArg;
    pub(crate) use self::endpoint::{ProxyArg, Service};
    pub(crate) use self::limits::{LANES, PAYLOAD_SIZES, PacingArg};
    pub(crate) use self::reconnect::ReconnectArg;
}

#[path = "../../crates/ssm-cli/src/config"]
mod config {
    mod database;
    mod document;
    mod file;
    mod mistake;
    mod setting;

    use std::path::Path;

    use self::file::File;
    use self::mistake::Mistake;

    pub(crate) const VAULT_VARIABLE: &str = "AWS_VAULT";

    pub(crate) fn parse(text: &str) -> Result<File, Mistake> {
        File::parse(Path::new("/c"), text)
    }
}

fuzz_target!(|input: &[u8]| {
    let Ok(text) = std::str::from_utf8(&input[..input.len().min(LEN_MAX)]) else { return };
    match config::parse(text) {
        Ok(file) => {
            for (name, alias) in &file.aliases {
                assert!(!name.is_empty() && !alias.target.text.chars().any(char::is_control), "{name:?}");
            }
        }
        Err(mistake) => {
            let said = mistake.to_string();
            let line = said.strip_prefix("/c:").and_then(|rest| rest.split(':').next());
            let line: usize = line.and_then(|line| line.parse().ok()).expect("a line");
            assert!(line >= 1 && line <= text.lines().count().max(1) + 1, "line {line} of {text:?}");
        }
    }
});
