//! Every fault of the loopback, and what a shell or a command notices of it: time, or the documented end.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../../ssm-loopback/tests/trial/mod.rs"]
mod trial;

use std::time::Duration;

use ssm_loopback::fault::FaultGuard;
use ssm_loopback::{Config, Kms, KmsChallenge, Loopback, Profile};
use ssm_session::{CloseReason, Session, StartSession, TerminalSize};
use ssm_shell::{Command, CommandIo, Exit, Io, ShellError};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::trial::repeated;

/// How long anything may take. Only a failing test waits that long.
const SOON: Duration = Duration::from_secs(60);

macro_rules! survived {
    ($($name:ident: $faults:expr;)*) => {$(
        #[tokio::test]
        async fn $name() {
            let name = stringify!($name).replace('_', " ");
            repeated("shell", &name, &$faults, |faults| async move { a_shell_survives(&faults, Profile::Fast).await }).await;
        }
    )*};
}

survived! {
    nothing_goes_wrong: [];
    lost_messages_are_sent_again: ["loss=5%"];
    lost_acknowledgements_are_made_up_for: ["loss=30%,class=ack"];
    duplicates_are_dropped: ["duplicate=20%"];
    reordered_messages_are_put_in_order: ["reorder=20%,by=20ms"];
    five_percent_lost_and_five_reordered: ["loss=5%", "reorder=5%"];
    a_long_way_with_jitter: ["delay=40ms,jitter=20ms"];
    a_narrow_line: ["bandwidth=128KiB/s"];
    damaged_output_is_sent_again: ["corrupt=5%,direction=down"];
    cuts_without_a_closing_frame: ["cut=40"];
    cuts_by_chance: ["cut=1%"];
    cuts_by_the_clock: ["cut=100ms,jitter=50ms"];
    the_goodbye_of_every_hour: ["close=1000,every=40"];
    a_gateway_that_goes_away: ["close=1001,every=40"];
    resets: ["reset=40"];
    an_agent_that_is_cut_off: ["cut=40,end=agent,times=4"];
    half_open_silence_is_noticed: ["silence=50,times=2"];
    pauses_that_nothing_ends: ["pause=5,direction=up"];
    an_early_start_publication: ["start=early"];
    service_messages_with_the_old_header: ["header=112", "pause=10,direction=up", "cut=40"];
    service_messages_with_the_new_header: ["header=116", "pause=10,direction=up", "cut=40"];
    messages_in_text_frames: ["text=30,direction=down"];
    text_that_is_not_utf8: ["text=30,bytes=raw,direction=down"];
    frames_beyond_the_limit: ["oversize=30,direction=down"];
    fragments: ["fragment=100"];
    an_agent_that_is_not_ready: ["unready=1s"];
    a_late_handshake_when_encrypted: ["delay=500ms,class=handshake"];
    a_lost_handshake_when_encrypted: ["loss=60%,class=handshake"];
    a_doubled_handshake_when_encrypted: ["duplicate=100%,class=handshake"];
    a_repeated_handshake_when_encrypted: ["handshake=again"];
    throttled_and_failing_resumes: ["cut=40", "resume=429,times=1", "resume=503,odds=30%,times=3"];
    tokens_that_are_used_up: ["cut=40", "token=used,odds=30%,times=3"];
    cells_that_move: ["cut=40", "cell=rotate"];
    everything_at_once: [
        "loss=2%", "duplicate=2%", "reorder=2%", "corrupt=1%,direction=down", "delay=5ms,jitter=5ms", "cut=150",
        "pause=1%,direction=up", "close=1000,every=1s", "text=0.2%,bytes=raw,direction=down", "cell=rotate",
    ];
}

#[tokio::test]
async fn the_agent_of_aws_is_survived_at_five_percent_lost_and_reordered() {
    let name = "profile aws: five percent lost and five reordered";
    repeated("shell", name, &["loss=5%", "reorder=5%"], |faults| async move {
        a_shell_survives(&faults, Profile::Aws).await;
    })
    .await;
}

#[tokio::test]
async fn a_command_keeps_its_streams_and_its_exit_code() {
    let faults = ["loss=5%", "reorder=5%", "cut=100", "close=1000,every=1s"];
    repeated("command", "losses and cuts: streams apart, exit code", &faults, commands_survive).await;
}

#[tokio::test]
async fn item_55_an_action_that_nobody_knows_ends_the_session_cleanly() {
    let name = "unknown handshake action: ends, says why";
    repeated("encrypted shell", name, &["handshake=unknown"], |faults| async move {
        let shell = Shell::start(&faults, Profile::Fast).await;
        let exit = timeout(SOON, shell.run).await.expect("it ends").unwrap().unwrap();
        assert!(exit.reason.to_string().contains("FoldOrigami"), "{exit:?}");
    })
    .await;
}

#[tokio::test]
async fn a_forbidden_resume_ends_the_shell_with_its_reason() {
    repeated("shell", "ResumeSession 403: ends, says why", &["cut=10,times=1", "resume=403"], ends_refused)
        .await;
}

#[tokio::test]
async fn a_restarted_machine_ends_the_shell_with_its_reason() {
    repeated("shell", "agent restarts: ends, says why", &["restart=10,times=1"], ends_refused).await;
}

/// A shell and the far ends of its streams.
struct Shell {
    loopback: Loopback,
    faults: Vec<FaultGuard>,
    input: DuplexStream,
    output: DuplexStream,
    run: JoinHandle<Result<Exit, ShellError>>,
    seen: Vec<u8>,
}

impl Shell {
    async fn start(faults: &[String], profile: Profile) -> Self {
        // Shells begin with a handshake only where they are encrypted.
        let encrypted = faults.iter().any(|fault| fault.contains("handshake"));
        let challenge = KmsChallenge::Required;
        let kms = encrypted.then(|| Kms { key_id: "alias/key".into(), challenge, authority: None });
        let shell = Some("/bin/sh".into());
        let loopback = Loopback::start(Config { profile, shell, kms, ..Config::default() }).await.unwrap();
        let faults = faults.iter().map(|fault| loopback.fault(fault).unwrap()).collect();
        let request = StartSession::shell(loopback.target());
        let mut config = ssm_session::Config::default();
        // Half-open silence is noticed after half a second, not a minute and a half.
        config.channel.keep_alive = Duration::from_millis(200);
        config.channel.silence = Duration::from_millis(500);
        let session = Session::start(loopback.control(), &request, config).await.unwrap();
        let (input, session_input) = duplex(64 * 1024);
        let (output, session_output) = duplex(64 * 1024);
        let (io, _) = Io::streams(session_input, session_output, tokio::io::sink())
            .controlled(TerminalSize { cols: 101, rows: 33 });
        let run = tokio::spawn(ssm_shell::run(session, io, |_| {}));
        Self { loopback, faults, input, output, run, seen: Vec::new() }
    }

    async fn type_in(&mut self, text: &str) {
        self.input.write_all(text.as_bytes()).await.unwrap();
    }

    /// What is written up to and with `text`.
    async fn until(&mut self, text: &str) -> String {
        let found = async {
            loop {
                if let Some(at) = self.seen.windows(text.len()).position(|window| window == text.as_bytes()) {
                    let rest = self.seen.split_off(at + text.len());
                    return String::from_utf8(std::mem::replace(&mut self.seen, rest)).unwrap();
                }
                let mut buf = [0; 4096];
                let read = self.output.read(&mut buf).await.unwrap();
                assert_ne!(read, 0, "no {text:?} in {:?}", String::from_utf8_lossy(&self.seen));
                self.seen.extend_from_slice(&buf[..read]);
            }
        };
        timeout(SOON, found).await.unwrap_or_else(|_| panic!("no {text:?} in time"))
    }

    /// Exits over a line that is whole again. Nobody repeats the end of a session to a client that is away at that moment: its
    /// resume is refused.
    async fn leave(mut self) -> Exit {
        self.faults.clear();
        // What was broken before is in front of this answer.
        self.type_in("echo who''le\r").await;
        self.until("whole\r\n").await;
        self.type_in("exit\r").await;
        let exit = timeout(SOON, self.run).await.expect("it ends").unwrap().unwrap();
        self.loopback.shutdown().await;
        exit
    }
}

/// Long output, and many short answers to what is typed, byte by byte as they should be.
async fn a_shell_survives(faults: &[String], profile: Profile) {
    let lines = if profile == Profile::Aws { 3_000 } else { 10_000 };
    let mut shell = Shell::start(faults, profile).await;
    shell.type_in("stty -echo; PS1=; echo be''gin\r").await;
    shell.until("begin\r\n").await;
    shell.type_in(&format!("seq 1 {lines}; echo e''nd\r")).await;
    let expected: String = (1..=lines).map(|number| format!("{number}\r\n")).collect();
    let output = shell.until("end\r\n").await;
    assert!(output == expected + "end\r\n", "{} bytes", output.len());
    for number in 0..40 {
        shell.type_in(&format!("echo $(({number}*7))-\r")).await;
        assert_eq!(shell.until("-\r\n").await, format!("{}-\r\n", number * 7));
    }
    let exit = shell.leave().await;
    assert!(matches!(exit.reason, CloseReason::AgentClosed { detail: None, .. }), "{exit:?}");
}

async fn commands_survive(faults: Vec<String>) {
    let faults = faults.iter().map(|fault| fault.parse().unwrap()).collect();
    let loopback = Loopback::start(Config { faults, ..Config::default() }).await.unwrap();
    let command = Command::new("seq 1 10000; seq 1 1000 >&2; cat; exit 7").unwrap();
    let request = command.request(loopback.target());
    let session = Session::start(loopback.control(), &request, ssm_session::Config::default()).await.unwrap();
    let (mut output, command_output) = duplex(64 * 1024);
    let (mut error, command_error) = duplex(64 * 1024);
    let input: &'static [u8] = b"what was typed";
    let io = CommandIo::streams(command_output, command_error).input(input);
    let run = ssm_shell::exec(session, &command, io, |_| {});
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let all = async { tokio::join!(run, output.read_to_end(&mut out), error.read_to_end(&mut err)) };
    let (completed, ..) = timeout(SOON, all).await.expect("it ends");
    let seq = |last: u32| (1..=last).map(|number| format!("{number}\n")).collect::<String>();
    assert_eq!(completed.unwrap().code, 7);
    assert!(out == (seq(10_000) + "what was typed").as_bytes(), "{} bytes", out.len());
    assert!(err == seq(1_000).as_bytes(), "{} bytes", err.len());
}

async fn ends_refused(faults: Vec<String>) {
    let mut shell = Shell::start(&faults, Profile::Fast).await;
    let typing = async {
        while shell.input.write_all(b"echo something\r").await.is_ok() {
            if !matches!(timeout(SOON, shell.output.read(&mut [0; 4096])).await, Ok(Ok(1..))) {
                return;
            }
        }
    };
    timeout(SOON, typing).await.expect("it ends, it does not hang");
    let exit = timeout(SOON, shell.run).await.expect("it ends").unwrap().unwrap();
    assert_eq!(exit.reason, CloseReason::ResumeRefused);
}
