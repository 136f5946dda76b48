//! The program that the far side runs: a wrapper in POSIX `sh` around the user's command.
//!
//! ```text
//!                     ┌── take ── files ── feed ── fifo ──► stdin ┐
//! terminal, no echo ──┤    └─ signals, lines ───────────────────► │ command, in a session of its own
//!                     ├◄─ pump o ── base64 ◄─────────────── stdout┤
//!                     └◄─ pump e ── base64 ◄─────────────── stderr┘
//! ```
//!
//! The terminal is raw, and a `dd` takes in what comes through a fifo, from which shells read one byte at a time (bash does not from
//! a terminal) and another `dd`, which fills its blocks, all of a batch and no more. Where `dd` cannot do that, the terminal stays in
//! canonical mode: then one `read` returns one line, whatever program reads, and what is not read is kept rather than dropped as long
//! as no line is longer than 4,095 bytes (Linux `n_tty.c`). `take` reads everything that comes at once and never waits for the
//! command, so that the agent, which writes input to the terminal in the loop that reads its WebSocket, is never held up.

/// What is said to the far side's shell about a command, when it is a part of a session's parameters.
const WRAPPER: &str = include_str!("wrapper.sh");

/// Longest command line, in bytes as they are written in the script. A parameter may have 65,535 characters, and Linux takes
/// 128 KiB in one argument.
pub(crate) const LINE_MAX: usize = 60_000;

/// Reads of a block of output: of what is passed on as it comes, and of what is only good as a whole. Each takes up to 64 KiB, and a
/// block costs three processes.
const READS: u8 = 1;
const BULK_READS: u8 = 16;

/// The script for this command line. `token` begins every line that the script says.
pub(crate) fn script(token: &str, line: &[u8], bulk: bool) -> String {
    let reads = if bulk { BULK_READS } else { READS };
    let wrapper = WRAPPER.replace("@TOKEN@", token).replace("@READS@", &reads.to_string());
    wrapper.replace("@COMMAND@", &quoted(line))
}

/// The command line and a full stop, as one word of `sh`. The stop is taken off again: `$()` eats newlines at the end.
///
/// Plain text stays as it is, so that it can be read in CloudTrail. Whatever else it holds is written for `printf`: bytes that
/// are not ASCII, which JSON cannot carry, and braces, which the agent would take for its parameters.
pub(crate) fn quoted(line: &[u8]) -> String {
    let plain = line.iter().all(|byte| matches!(byte, b'\n' | b'\t' | b' '..=b'~'));
    if plain && !line.windows(2).any(|pair| pair == b"{{" || pair == b"}}") {
        let text: String = line.iter().map(|byte| char::from(*byte)).collect();
        return format!("'{}.'", text.replace('\'', r"'\''"));
    }
    let mut text = String::from("$(printf '");
    for &byte in line {
        match byte {
            b'\'' | b'\\' | b'%' | b'{' | b'}' => text += &format!("\\{byte:03o}"),
            b' '..=b'~' => text.push(char::from(byte)),
            _ => text += &format!("\\{byte:03o}"),
        }
    }
    text + ".')"
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn every_shell_reads_back_what_was_quoted() {
        let mut all: Vec<u8> = (1..=255).collect();
        all.extend_from_slice(b"{{ command }} '$x' `y` \\n %s $(z) \n\n");
        for line in [&b"plain 'text' $HOME \\ %d"[..], b"", b"\n", b"a\nb\n\n", "é{{x}}".as_bytes(), &all] {
            for shell in [&["dash"][..], &["bash"], &["busybox", "sh"]] {
                let script = format!("c={}; printf %s \"${{c%.}}\"", quoted(line));
                let out = Command::new(shell[0]).args(&shell[1..]).args(["-c", &script]).output();
                let out = out.unwrap_or_else(|error| panic!("{shell:?}: {error}; run cargo xtask setup"));
                assert_eq!(out.stdout, line, "{shell:?} {script}");
            }
        }
    }

    #[test]
    fn nothing_is_left_for_the_agent_to_replace() {
        let script = script("t", b"echo {{ command }} {{ssm:name}}", false);
        assert!(!script.contains("{{") && !script.contains("}}"), "{script}");
    }

    #[test]
    fn the_wrapper_fits_beside_the_longest_command() {
        assert!(WRAPPER.len() + 100 + LINE_MAX < 65_535);
    }
}
