//! What programs on this machine say of themselves.

use std::io;
use std::path::Path;
use std::process::Stdio;

use tokio::io::AsyncReadExt;
use tokio::process::Command;

/// What a program may say of its version, on each way out.
const SAID_MAX: u64 = 4096;

/// The first line a program says of itself, on either way out. It is killed when this is dropped.
///
/// # Errors
///
/// When it cannot be run, or fails.
pub(crate) async fn says(program: &Path, flag: &str) -> Result<String, String> {
    let mut command = Command::new(program);
    command.arg(flag).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().map_err(|error| format!("it does not run: {error}"))?;
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let mut said = Vec::new();
    let read = async || -> io::Result<()> {
        if let Some(out) = out {
            out.take(SAID_MAX).read_to_end(&mut said).await?;
        }
        if let Some(err) = err {
            err.take(SAID_MAX).read_to_end(&mut said).await?;
        }
        Ok(())
    };
    read().await.map_err(|error| error.to_string())?;
    let status = child.wait().await.map_err(|error| error.to_string())?;
    let said = String::from_utf8_lossy(&said);
    let line = said.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    if status.success() { Ok(line.to_owned()) } else { Err(format!("{status}: {line}")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_program_that_fails_is_told_with_what_it_says() {
        let sh = Path::new("/bin/sh");
        assert!(says(sh, "--no-such-flag").await.unwrap_err().contains("exit status"));
        assert!(says(Path::new("/nonexistent/ssh"), "-V").await.unwrap_err().contains("does not run"));
    }
}
