//! `--capture FILE`: what goes over the data channels of this process, for `ssm decode`.
//!
//! A line of JSON for each frame: `n` from 0, `t` in seconds since 1970, `session`, `dir` (`client->agent`, `agent->client`,
//! `client->service` or `service->client`), `kind` (`binary`, `text`, `ping`, `pong` or `close`), and the frame as `b64` or `text`.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use ssm_session::{Frame, SessionId, Tap, Way};

use crate::error::Error;
use crate::output::{complain, unix_time};
use crate::private_file;

/// The header length in messages that the service makes itself (`ssm_proto::Layout`).
const OF_SERVICE: [u8; 4] = 112_u32.to_be_bytes();

static TAP: OnceLock<Tap> = OnceLock::new();

/// Captures all sessions of this process. The file is made with the first frame, because a process that only starts another one
/// in the background has none.
///
/// # Errors
///
/// When there is such a file, or no folder for it.
pub(crate) fn start(path: PathBuf) -> Result<(), Error> {
    if path.symlink_metadata().is_ok() {
        return Err(private_file::refusal(&path, &io::ErrorKind::AlreadyExists.into()));
    }
    let folder =
        path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    if !folder.is_dir() {
        return Err(private_file::refusal(&path, &io::ErrorKind::NotFound.into()));
    }
    let capture = Mutex::new(Capture { path, state: State::New, frames: 0 });
    TAP.get_or_init(|| {
        Tap::new(move |session, way, frame| {
            capture.lock().unwrap_or_else(PoisonError::into_inner).see(session, way, frame);
        })
    });
    Ok(())
}

/// What every session of this process is to have, if they are captured.
pub(crate) fn tap() -> Option<Tap> {
    TAP.get().cloned()
}

#[derive(Debug)]
struct Capture {
    path: PathBuf,
    state: State,
    frames: u64,
}

#[derive(Debug)]
enum State {
    New,
    Open(File),
    Failed,
}

impl Capture {
    fn see(&mut self, session: &SessionId, way: Way, frame: Frame<'_>) {
        let line = line(self.frames, session, way, frame);
        self.frames += 1;
        if let Err(error) = self.write(&line) {
            self.state = State::Failed;
            complain(format_args!("nothing is captured to {} from here on: {error}", self.path.display()));
        }
    }

    fn write(&mut self, line: &str) -> io::Result<()> {
        if matches!(self.state, State::New) {
            self.state = State::Open(private_file::create(&self.path)?);
        }
        // In one write each: what was seen until a crash is there.
        if let State::Open(file) = &mut self.state { file.write_all(line.as_bytes()) } else { Ok(()) }
    }
}

fn line(n: u64, session: &SessionId, way: Way, frame: Frame<'_>) -> String {
    let other = match frame {
        Frame::Binary(bytes) if way == Way::Out || !bytes.starts_with(&OF_SERVICE) => "agent",
        _ => "service",
    };
    let dir = match way {
        Way::Out => format!("client->{other}"),
        Way::In => format!("{other}->client"),
    };
    let mut line = json!({ "n": n, "t": unix_time().as_secs_f64(), "session": session.as_str(), "dir": dir });
    let (kind, content) = match frame {
        Frame::Binary(bytes) => ("binary", json!({ "b64": STANDARD.encode(bytes) })),
        Frame::Ping(bytes) => ("ping", json!({ "b64": STANDARD.encode(bytes) })),
        Frame::Pong(bytes) => ("pong", json!({ "b64": STANDARD.encode(bytes) })),
        Frame::Text(text) => ("text", json!({ "text": text })),
        Frame::Close(code) => ("close", json!({ "code": code })),
        _ => ("other", json!({})),
    };
    line["kind"] = kind.into();
    let content = content.as_object().cloned().unwrap_or_default();
    line.as_object_mut().into_iter().for_each(|line| line.extend(content.clone()));
    line.to_string() + "\n"
}
