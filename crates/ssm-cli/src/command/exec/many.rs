//! One command on many machines.

use std::pin::pin;
use std::process::ExitCode;
use std::sync::Arc;

use ssm_portfwd::StartLimiter;
use ssm_session::Session;
use ssm_shell::{Command, CommandIo, Notice};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

use super::lines::{Form, Lines, Outcome, Printed, Printer, Stream};
use super::{SIGNALS, remote, targets, with_document};
use crate::args::{ExecArgs, Via};
use crate::command::{LEAVE, shell};
use crate::control::Control;
use crate::error::{Error, FAILURE};
use crate::options::{self, Source};
use crate::output::{self, complain, say};
use crate::process::{Signal, Signals};

/// Most machines that have a session each when nothing is said about it.
const SESSIONS_MAX: usize = 50;

/// Runs the command on each machine; the exit code is the largest.
pub(super) async fn run(args: &ExecArgs, line: &[u8]) -> Result<ExitCode, Error> {
    let watch = || Signals::take().map_err(Error::local("cannot watch for signals"));
    let targets = targets::all(&args.targets, &args.connection).await?;
    let form = if args.json { Form::Json } else { Form::Prefixed };
    let via = args.via.unwrap_or(if targets.len() > SESSIONS_MAX { Via::RunCommand } else { Via::Session });
    if via == Via::RunCommand {
        return by_run_command(args, line, &targets, form, &mut watch()?).await;
    }
    let Source::Api(control) = Source::load(&args.connection, "ssm exec").await? else {
        return Err(Error::Usage("--attach has one session".into()));
    };
    let mut signals = watch()?;
    let (printer, printed) = Printer::start(form).map_err(Error::local("cannot write"))?;
    let (places, limiter) = (Arc::new(Semaphore::new(args.parallel.into())), StartLimiter::default());
    let mut running = JoinSet::new();
    let mut senders = Vec::new();
    for target in targets {
        let command = Command::new(line).map_err(Error::CommandLine)?;
        let request = with_document(command.request(&target), args);
        let (sender, mut receiver) = mpsc::channel(SIGNALS);
        senders.push(sender);
        let (places, limiter, control) = (Arc::clone(&places), limiter.clone(), Control::clone(&control));
        let (config, printer) = (options::command_config(args.channel), printer.clone());
        running.spawn(async move {
            let target: Arc<str> = target.into();
            let not_started = || Outcome::Failed("not started".into());
            let Ok(_place) = places.acquire().await else {
                return (target, not_started());
            };
            let started = {
                let mut leave = pin!(receiver.recv());
                tokio::select! {
                    () = limiter.turn() => Session::start_unless(control, &request, config, leave).await,
                    signal = &mut leave => Ok(Err(signal)),
                }
            };
            let outcome = match started {
                Ok(Ok(session)) => at_work(session, &command, &target, receiver, form, &printer).await,
                Ok(Err(_signal)) => not_started(),
                Err(error) => Outcome::Failed(Error::from(error).to_string()),
            };
            (target, outcome)
        });
    }
    let mut tally = Tally::new(form, printer);
    loop {
        tokio::select! {
            ended = running.join_next() => match ended {
                Some(Ok((target, outcome))) => tally.add(&target, &outcome),
                Some(Err(error)) => return Err(Error::Local { what: "a task failed", source: error.into() }),
                None => return tally.end(printed, &mut signals).await,
            },
            signal = signals.next() => {
                tally.interrupted.get_or_insert(signal);
                // Those that wait for their turn are not begun, and those that are opening leave.
                places.close();
                for sender in &senders {
                    let _ = sender.try_send(remote(signal));
                }
            }
        }
    }
}

/// Runs it in its session to the end.
async fn at_work(
    session: Session<Control>,
    command: &Command,
    target: &Arc<str>,
    signals: mpsc::Receiver<ssm_shell::Signal>,
    form: Form,
    printer: &Printer,
) -> Outcome {
    let outputs = [Stream::Output, Stream::Error].map(|stream| Lines::new(target, stream, form, printer));
    let io = CommandIo::streams(outputs[0].writer(), outputs[1].writer()).signals(signals);
    let tell = |notice| {
        if let Notice::Ready(ready) = &notice
            && !ready.customer_message.is_empty()
        {
            say(format_args!("{target}: {}", ready.customer_message));
        }
        shell::explain(notice);
    };
    let completed = ssm_shell::exec(session, command, io, tell).await;
    outputs.iter().for_each(Lines::finish);
    completed
        .map_or_else(|error| Outcome::Failed(Error::from(error).to_string()), |end| Outcome::Exit(end.code))
}

#[cfg(feature = "aws")]
async fn by_run_command(
    args: &ExecArgs,
    line: &[u8],
    targets: &[String],
    form: Form,
    signals: &mut Signals,
) -> Result<ExitCode, Error> {
    super::run_command::run(args, line, targets, form, signals).await
}

#[cfg(not(feature = "aws"))]
#[expect(clippy::unused_async, reason = "the other one waits")]
async fn by_run_command(
    _: &ExecArgs,
    _: &[u8],
    _: &[String],
    _: Form,
    _: &mut Signals,
) -> Result<ExitCode, Error> {
    Err(Error::NeedsAws("ssm exec --via run-command"))
}

/// What came of all machines together.
#[derive(Debug)]
pub(super) struct Tally {
    form: Form,
    printer: Printer,
    worst: u8,
    pub(super) interrupted: Option<Signal>,
}

impl Tally {
    pub(super) fn new(form: Form, printer: Printer) -> Self {
        Self { form, printer, worst: 0, interrupted: None }
    }

    /// A machine is done.
    pub(super) fn add(&mut self, target: &str, outcome: &Outcome) {
        match outcome {
            Outcome::Exit(0) => {}
            Outcome::Exit(code) => {
                self.worst = self.worst.max(*code);
                // Where nobody reads the output, it is the end of the output that has ended the command.
                let is_read = self.printer.failure().get().is_none();
                if self.form == Form::Prefixed && is_read {
                    say(format_args!("{target}: exit code {code}"));
                }
            }
            Outcome::Failed(error) => {
                self.worst = FAILURE;
                if self.form == Form::Prefixed {
                    complain(format_args!("{target}: {error}"));
                }
            }
        }
        if self.form == Form::Json {
            self.printer.tell(target, outcome);
        }
    }

    /// Waits until all is written, and gives the exit code of all: that of a signal, or the largest. A reader that stands still is
    /// not waited for once a signal has come.
    ///
    /// # Errors
    ///
    /// When not all could be written, and somebody is there to read it.
    pub(super) async fn end(self, mut printed: Printed, signals: &mut Signals) -> Result<ExitCode, Error> {
        let Self { printer, worst, mut interrupted, .. } = self;
        let failure = printer.failure();
        // The last one, without which nothing comes any more.
        drop(printer);
        if interrupted.is_none() {
            tokio::select! {
                _ = &mut printed => {}
                signal = signals.next() => interrupted = Some(signal),
            }
        }
        if interrupted.is_some() {
            let _ = tokio::time::timeout(LEAVE, printed).await;
        }
        if let Some(kind) = failure.get() {
            output::printed(Err((*kind).into()))?;
        }
        Ok(ExitCode::from(interrupted.map_or(worst, Signal::exit_code)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_exit_code_is_that_of_all() {
        let (printer, _printed) = Printer::start(Form::Json).unwrap();
        let mut tally = Tally::new(Form::Prefixed, printer);
        for code in [0, 3, 1] {
            tally.add("x", &Outcome::Exit(code));
        }
        assert_eq!(tally.worst, 3);
        tally.add("x", &Outcome::Failed("not connected".into()));
        assert_eq!(tally.worst, 255);
    }
}
