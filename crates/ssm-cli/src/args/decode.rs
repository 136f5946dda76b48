//! `ssm decode`

use std::path::PathBuf;

use clap::Args as ClapArgs;

/// Print the frames of a capture so that a person can read them
///
/// A capture is what --capture FILE has written. Tokens are left out and control characters written out, so what is printed can be
/// shown around; what was typed and shown in the session is in it.
#[derive(Debug, ClapArgs)]
pub(crate) struct DecodeArgs {
    /// The capture; - for stdin
    pub(crate) file: PathBuf,
    /// Print payloads to their ends
    #[arg(long)]
    pub(crate) full: bool,
}
