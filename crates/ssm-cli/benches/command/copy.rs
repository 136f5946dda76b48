//! `ssm cp` of a large file, each way, beside a bare pseudo terminal in raw mode that carries the same base64, and, where that
//! can be had, beside a session with nothing in it but that text.

use std::fs::{self, File};
use std::io::{BufWriter, Read as _, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::stack::{OtherSide, drain, watch};
use crate::table::{self, Samples};
use crate::terminal::Terminal;
use crate::{Failure, Options};

pub(crate) fn both_ways(other_side: &OtherSide, options: &Options) -> Result<(), Failure> {
    let folder = other_side.folder.path();
    let (from, text, to) = (folder.join("from"), folder.join("from.base64"), folder.join("to"));
    random(&from, options.mib)?;
    let encoded = Command::new("base64").arg(&from).stdout(File::create(&text)?).status()?;
    if !encoded.success() {
        return Err(format!("base64: {encoded}").into());
    }
    let mut rows = Vec::new();
    for way in ["up", "down"] {
        let [mut bare, mut session, mut copied, mut share, mut cpu, mut memory]: [Samples; 6] =
            Default::default();
        for _ in 0..options.runs {
            let ceiling = options.mib as f64 / if way == "up" { write(&text)? } else { read(&text)? };
            if way == "down" {
                session.push(options.mib as f64 / shown(other_side, &text)?);
            }
            let _ = fs::remove_file(&to);
            let (here, there) = match way {
                "up" => (from.display().to_string(), other_side.there(&to)),
                _ => (other_side.there(&from), to.display().to_string()),
            };
            let began = Instant::now();
            let mut child = other_side.ssm(&["cp", &here, &there]).stdout(Stdio::null()).spawn()?;
            let (status, used) = watch(&mut child)?;
            let rate = options.mib as f64 / began.elapsed().as_secs_f64();
            let same = Command::new("cmp").arg(&from).arg(&to).status()?;
            if !status.success() || !same.success() {
                return Err(format!("ssm cp {here} {there}: {status}; cmp: {same}").into());
            }
            share.push(rate / ceiling * 100.0);
            bare.push(ceiling);
            copied.push(rate);
            cpu.push(used.cpu.as_secs_f64() * 1024.0 / options.mib as f64);
            memory.push(used.peak_rss);
        }
        let share = share.shown(0) + " %";
        let session = if way == "down" { session.shown(1) } else { String::new() };
        let rates = [way.to_owned(), bare.shown(1), session, copied.shown(1), share];
        rows.push([&rates[..], &[cpu.shown(2), memory.shown(1)]].concat());
    }
    let head = [
        "way",
        "raw terminal MiB/s",
        "the text in a session MiB/s",
        "ssm cp MiB/s",
        "of the terminal",
        "client CPU s/GiB",
        "client peak RSS MiB",
    ];
    table::print(&format!("`ssm cp` of {} MiB, MiB of the file a second", options.mib), &head, &rows);
    Ok(())
}

/// Seconds that it takes to write a text to a program behind a raw terminal.
fn write(text: &Path) -> Result<f64, Failure> {
    let len = fs::metadata(text)?.len();
    let command = format!("stty raw -echo; printf ready; head -c {len} >/dev/null; printf done");
    let mut terminal = Terminal::bare(&command)?;
    terminal.until(b"ready")?;
    let (mut file, mut buf) = (File::open(text)?, vec![0; 64 * 1024]);
    let began = Instant::now();
    loop {
        match file.read(&mut buf)? {
            0 => break,
            len => terminal.keys(&buf[..len])?,
        }
    }
    terminal.until(b"done")?;
    Ok(began.elapsed().as_secs_f64())
}

/// Seconds that it takes to read a text that a program writes to a raw terminal.
fn read(text: &Path) -> Result<f64, Failure> {
    let len = usize::try_from(fs::metadata(text)?.len())?;
    let command = format!("stty raw -echo; printf ready; read go; cat {}; read end", text.display());
    let mut terminal = Terminal::bare(&command)?;
    terminal.until(b"ready")?;
    let began = Instant::now();
    terminal.keys(b"\n")?;
    let mut read = 0;
    while read < len {
        read += terminal.read()?.len();
    }
    Ok(began.elapsed().as_secs_f64())
}

/// Seconds that `ssm shell` takes to pass on a text that a program writes to a raw terminal.
fn shown(other_side: &OtherSide, text: &Path) -> Result<f64, Failure> {
    let command = format!("stty raw -echo; cat {}", text.display());
    let began = Instant::now();
    let (mut child, pipe) = other_side.piped(&["shell", "-q", other_side.target(), "--command", &command])?;
    let len = drain(pipe)?;
    let (took, status) = (began.elapsed().as_secs_f64(), child.wait()?);
    if len < fs::metadata(text)?.len() || !status.success() {
        return Err(format!("{len} bytes of the text came; ssm shell: {status}").into());
    }
    Ok(took)
}

/// A file that no compression helps with, the same each time.
fn random(path: &Path, mib: usize) -> Result<(), Failure> {
    let mut file = BufWriter::new(File::create(path)?);
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for _ in 0..mib << 17 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        file.write_all(&state.to_le_bytes())?;
    }
    Ok(file.flush()?)
}
