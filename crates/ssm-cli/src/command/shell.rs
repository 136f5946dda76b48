//! `ssm shell`

use std::borrow::Cow;
use std::fs::{self, File};
use std::io::{self, Cursor, IsTerminal, Read as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use ssm_session::{CloseReason, Encryption, SessionKind, StartSession};
use ssm_shell::{EndedBy, Exit, Io, Notice, Question, Recording, Statistics};

use crate::args::{EscapeArg, ShellArgs};
use crate::command::{self, tunnels};
use crate::config::{Config, Flags};
use crate::error::{Error, ending};
use crate::lookup;
use crate::menu::{self, Offer};
use crate::options::{self, Source};
use crate::output::{Bytes, Took, answer, complain, say};
use crate::private_file;
use crate::process::Signals;
use crate::reconnect;
use crate::registry;

/// Most that is typed from a file.
const INIT_MAX: u64 = 1024 * 1024;

/// Runs the command.
pub(crate) async fn run(mut args: ShellArgs, config: &Config) -> Result<ExitCode, Error> {
    if args.target.is_none() && !args.connection.attach {
        args.target = Some(menu::choose("ssm shell", Offer::Machines, config, &args.connection).await?);
    }
    fill(&mut args, config);
    let args = &args;
    let init = args.init.as_deref().map(read_init).transpose()?;
    let target = lookup::session_target(args.target.as_deref(), &args.connection).await?;
    let request = request(args, target);
    let mut source = Source::load(&args.connection, "ssm shell").await?;
    let mut signals = Signals::take().map_err(Error::local("cannot watch for signals"))?;
    let record = args.record.as_deref().map(Record::create).transpose()?;
    let mut config = options::shell_config(args.reconnect);
    if args.require_encryption {
        config.channel.encryption = Encryption::Required;
    }
    let session = command::open(&mut source, &request, config, &mut signals).await?;
    // From here on the shell has handlers of its own.
    drop(signals);
    let kind = session.ready().map(|ready| ready.kind);
    let takes_keys = matches!(kind, Some(SessionKind::Shell | SessionKind::InteractiveCommands));
    if takes_keys && !io::stdin().is_terminal() {
        say("stdin is not a terminal: what it holds is typed, and at its end Ctrl-D");
    }
    let mut io = Io::stdio()?.escapes(args.escape.0).idle_notice(args.idle_notice.0);
    if let Some(init) = init {
        io = io.initial(Cursor::new(init));
    }
    if let Some(record) = record {
        let target = args.target.as_deref().unwrap_or_else(|| session.id().as_str());
        io = io.recorded(Recording::new(record.keep()).titled(format!("ssm shell {target}")));
    }
    let about = About { escape: args.escape, session: session.id().to_string() };
    let exit = ssm_shell::run(session, io, |notice| about.tell(notice)).await?;
    tell_end(&exit);
    exit_code(&exit)
}

/// Drives a session that takes keys until its end, without a recording.
#[cfg(feature = "lookup")]
pub(crate) async fn carry(
    session: ssm_session::Session<crate::control::Control>,
    escape: EscapeArg,
    idle_notice: crate::args::LimitArg,
) -> Result<ExitCode, Error> {
    if !io::stdin().is_terminal() {
        say("stdin is not a terminal: what it holds is typed, and at its end Ctrl-D");
    }
    let io = Io::stdio()?.escapes(escape.0).idle_notice(idle_notice.0);
    let about = About { escape, session: session.id().to_string() };
    let exit = ssm_shell::run(session, io, |notice| about.tell(notice)).await?;
    tell_end(&exit);
    exit_code(&exit)
}

/// What a file has to be typed: its lines, each with the key that ends one, whatever ends them there.
fn read_init(path: &Path) -> Result<Vec<u8>, Error> {
    let failed = |error| Error::Usage(format!("cannot read {}: {error}", path.display()));
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(INIT_MAX + 1).read_to_end(&mut bytes)).map_err(failed)?;
    if bytes.len() as u64 > INIT_MAX {
        return Err(Error::Usage(format!("{} is too long to be typed: more than 1 MiB", path.display())));
    }
    Ok(typed(&bytes))
}

fn typed(text: &[u8]) -> Vec<u8> {
    let mut typed = Vec::with_capacity(text.len());
    let mut previous = 0;
    for &byte in text {
        match (previous, byte) {
            (b'\r', b'\n') => {}
            (_, b'\n') => typed.push(b'\r'),
            _ => typed.push(byte),
        }
        previous = byte;
    }
    typed
}

/// The file of a recording; removed again when there is no session to record.
struct Record {
    path: PathBuf,
    file: Option<File>,
}

impl Record {
    fn create(path: &Path) -> Result<Self, Error> {
        let file = private_file::create(path).map_err(|error| private_file::refusal(path, &error))?;
        Ok(Self { path: path.to_owned(), file: Some(file) })
    }

    fn keep(mut self) -> File {
        self.file.take().expect("it is taken once, here")
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        if self.file.is_some() {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Takes from the configuration what the command line leaves open.
fn fill(args: &mut ShellArgs, config: &Config) {
    let flags = Flags::from(&mut args.connection).reconnect(&mut args.reconnect);
    if let Some(alias) = config.fill(args.target.as_deref(), flags) {
        args.target = Some(alias.target.text.clone());
        if args.document.is_none() && args.remote_command.is_none() {
            args.document = alias.document.as_ref().map(|document| document.text.clone());
        }
    }
}

/// Says that a signal ended it, and leaves the line of the remote prompt for whatever comes next.
fn tell_end(exit: &Exit) {
    let normal =
        matches!(exit.reason, CloseReason::Terminated | CloseReason::AgentClosed { detail: None, .. });
    let left = exit.ended_by == EndedBy::Escape;
    let signal = match exit.ended_by {
        EndedBy::Signal(number) => Some(number),
        _ => None,
    };
    if (signal.is_some() || left || !normal) && io::stdout().is_terminal() && io::stderr().is_terminal() {
        eprintln!();
    }
    if left {
        say("the session was ended here");
    }
    if let Some(number) = signal {
        say(format_args!("ended by {}", signal_name(number)));
    }
}

fn signal_name(number: i32) -> Cow<'static, str> {
    match number {
        SIGHUP => "SIGHUP".into(),
        2 => "SIGINT".into(),
        3 => "SIGQUIT".into(),
        15 => "SIGTERM".into(),
        other => format!("signal {other}").into(),
    }
}

fn request(args: &ShellArgs, target: String) -> StartSession {
    let request = match (&args.remote_command, &args.document) {
        (Some(command), _) => StartSession::interactive_command(target, command),
        (None, Some(document)) => StartSession::document(target, document),
        (None, None) => StartSession::shell(target),
    };
    let request = args
        .parameters
        .iter()
        .fold(request, |request, parameter| request.parameter(&parameter.key, &parameter.value));
    request.reason(args.connection.reason.clone())
}

/// Tells the user what happens besides the shell's own output.
pub(crate) fn tell(notice: Notice) {
    match notice {
        Notice::Ready(ready) => {
            tracing::info!(?ready, "the session has started");
            if !ready.customer_message.is_empty() {
                say(&ready.customer_message);
            }
        }
        Notice::Redial { attempt: 0, .. } => {
            say("the connection was lost; connecting again");
            explain(notice);
        }
        Notice::Resumed => {
            say("connected again");
            explain(notice);
        }
        Notice::Idle(time) => say(format_args!(
            "nothing was typed or shown for {}; the service ends a session after 20 min, or what the account says",
            Took(time)
        )),
        Notice::RecordingFailed(error) => {
            complain(format_args!("nothing is recorded from here on: {error}"));
        }
        Notice::Asked(question) => About::default().answer(question),
        other => explain(other),
    }
}

/// Says with `-v` what happens, and always what somebody has to know.
pub(crate) fn explain(notice: Notice) {
    match notice {
        Notice::Redial { attempt, cause, api } => reconnect::lost(attempt, &cause, api),
        Notice::Resumed => reconnect::back(None),
        other => tracing::info!(notice = ?other, "session"),
    }
}

/// What is known of a session when its user asks.
struct About {
    escape: EscapeArg,
    session: String,
}

impl Default for About {
    fn default() -> Self {
        Self { escape: EscapeArg(Some(b'~')), session: String::new() }
    }
}

impl About {
    fn tell(&self, notice: Notice) {
        match notice {
            Notice::Asked(question) => self.answer(question),
            other => tell(other),
        }
    }

    fn answer(&self, question: Question) {
        match question {
            Question::Help => answer(&self.help()),
            Question::Statistics(statistics) => answer(&self.statistics(&statistics)),
            Question::List => drop(tokio::spawn(async {
                let lines = match registry::peers() {
                    Ok(peers) => tunnels::shown(&peers).await,
                    Err(error) => format!("cannot look for tunnels: {error}"),
                };
                answer(&lines);
            })),
            Question::Suspend => answer("this terminal has no shell to go back to"),
            Question::Off => answer("no more escapes in this session"),
            other => tracing::info!(question = ?other, "asked"),
        }
    }

    fn help(&self) -> String {
        let escape = self.escape;
        let lines = [
            (".", "end the session"),
            ("^Z", "suspend ssm"),
            ("#", "list tunnels"),
            ("s", "how the connection is"),
            ("-", "no more escapes in this session"),
            ("?", "this"),
        ];
        let mut text = String::from("at the start of a line:\n");
        for (key, does) in lines {
            text += &format!("  {escape}{key:<3} {does}\n");
        }
        text + &format!("  {escape}{escape}   send the character once")
    }

    fn statistics(&self, statistics: &Statistics) -> String {
        let Statistics { age, idle, lost, typed_ahead, channel } = statistics;
        let connection = match lost {
            None => format!("up, RTT {:.1} ms", channel.rtt.as_secs_f64() * 1e3),
            Some(time) => format!("lost {} ago", Took(*time)),
        };
        let mut text = String::new();
        if !self.session.is_empty() {
            text += &format!("session     {}\n", self.session);
        }
        text + &format!(
            "connection  {connection}, brought back {} times\n\
                 open for    {}, idle for {}\n\
                 sent        {} in {} messages, {} of them again; {} wait for an acknowledgement, {} to be sent\n\
                 received    {} in {} messages, {} again, {} out of order",
            channel.resumes,
            Took(*age),
            Took(*idle),
            Bytes(channel.bytes_sent),
            channel.messages_sent,
            channel.retransmissions,
            Bytes(channel.in_flight as u64),
            Bytes(*typed_ahead as u64),
            Bytes(channel.bytes_received),
            channel.messages_received,
            channel.duplicates_received,
            channel.out_of_order_received,
        )
    }
}

/// The remote exit code where there is one, that of a shell for a signal, and 0 for a normal end.
pub(crate) fn exit_code(exit: &Exit) -> Result<ExitCode, Error> {
    let code = match (exit.code, exit.ended_by, &exit.reason) {
        (Some(code), _, reason) => {
            if let CloseReason::AgentClosed { detail: Some(_), .. } = reason {
                complain(ending(reason));
            }
            code
        }
        (None, EndedBy::Signal(number), _) => BY_SIGNAL + number,
        (None, EndedBy::InputClosed, _) => BY_SIGNAL + SIGHUP,
        (None, EndedBy::OutputClosed, _) => BY_SIGNAL + SIGPIPE,
        // As ssh has it.
        (None, EndedBy::Escape, _) => LEFT,
        (None, _, CloseReason::Terminated | CloseReason::AgentClosed { detail: None, .. }) => 0,
        (None, _, reason) => return Err(Error::Ended(reason.clone())),
    };
    Ok(ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX)))
}

/// What a shell adds to the number of the signal that ended a program.
const BY_SIGNAL: i32 = 128;
const SIGHUP: i32 = 1;
const SIGPIPE: i32 = 13;
const LEFT: i32 = 255;

#[cfg(test)]
mod tests {
    use super::*;

    fn code(code: Option<i32>, detail: Option<&str>) -> Option<String> {
        shown(code, detail, EndedBy::Session)
    }

    fn shown(code: Option<i32>, detail: Option<&str>, ended_by: EndedBy) -> Option<String> {
        let reason = CloseReason::AgentClosed { exit_code: code, detail: detail.map(Into::into) };
        let exit = Exit { reason, ended_by, code, bytes_received: 0 };
        exit_code(&exit).ok().map(|code| format!("{code:?}"))
    }

    #[test]
    fn an_end_from_outside_looks_as_for_any_program() {
        assert_eq!(shown(None, None, EndedBy::Signal(15)), Some(format!("{:?}", ExitCode::from(143))));
        assert_eq!(shown(None, None, EndedBy::OutputClosed), Some(format!("{:?}", ExitCode::from(141))));
    }

    #[test]
    fn a_file_is_typed_line_by_line() {
        assert_eq!(typed(b"a\nb\r\nc\rd\n\n"), b"a\rb\rc\rd\r\r");
    }

    #[test]
    fn help_has_the_character_that_was_chosen() {
        let about = About { escape: EscapeArg(Some(b'%')), ..About::default() };
        assert!(
            about.help().contains("  %.   end") && about.help().contains("  %%   send"),
            "{}",
            about.help()
        );
    }

    #[test]
    fn item_74_the_remote_exit_code_is_ours() {
        assert_eq!(code(Some(3), None), Some(format!("{:?}", ExitCode::from(3))));
        assert_eq!(code(None, None), Some(format!("{:?}", ExitCode::SUCCESS)));
        assert_eq!(code(Some(-1), None), Some(format!("{:?}", ExitCode::from(255))));
        assert_eq!(code(None, Some("idle for 20 minutes")), None);
    }
}
