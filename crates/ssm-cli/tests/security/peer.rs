//! Gateways, agents and services that want to do harm: no flood fills the memory, nothing is waited for for ever, nothing panics.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ssm_proto::{Header, MessageId, MessageType, PayloadType};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_tungstenite::tungstenite::Message;

use crate::common::fake_aws::{Asked, FakeAws};
use crate::common::{Program, ssm};
use crate::gateway::{Gateway, Socket, complete, frame, output, request, sent};
use crate::memory::{BOUND, peak, worked};

/// Most that a flood sends.
const FLOOD: usize = 48 * 1024 * 1024;

/// How long it takes at most.
const FLOOD_TIME: Duration = Duration::from_secs(3);

/// Long enough for a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

const TARGET: &str = "i-0123456789abcdef0";

/// Sends messages by their numbers until it is enough, or the client takes no more. Counts the bytes that it took.
async fn flood(socket: &mut Socket, taken: &AtomicUsize, message: impl Fn(i64) -> Message) {
    let (begin, mut bytes, mut number) = (Instant::now(), 0, 0);
    while bytes < FLOOD && begin.elapsed() < FLOOD_TIME {
        let message = message(number);
        let len = message.len() + 8;
        number += 1;
        if !sent(socket, message).await {
            return;
        }
        bytes += len;
        taken.store(bytes, Ordering::Relaxed);
    }
}

fn acknowledge(sequence: i64) -> Message {
    let body = format!(
        r#"{{"AcknowledgedMessageType":"input_stream_data","AcknowledgedMessageId":"00000000-0000-0000-0000-000000000000","AcknowledgedMessageSequenceNumber":{sequence},"IsSequentialMessage":true}}"#
    );
    frame(Header::control(MessageType::Acknowledge, MessageId::default(), 1), body.as_bytes())
}

/// What a gateway floods a client with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flood {
    /// Messages behind a gap that is never closed.
    Gap,
    /// Small messages, each of them a repetition.
    Repetitions,
    /// Output, while nobody reads it.
    Output,
    /// The smallest output there is, while nobody reads it.
    Bytes,
    /// Acknowledgements of all that was sent and will ever be.
    Acknowledgements,
    Pings,
    /// Handshakes, one after the other, each of the largest size.
    Handshakes,
    /// Data of the multiplexer for streams that there are not.
    UnknownStreams,
    /// Streams that the far side opens.
    OpenedStreams,
}

impl Flood {
    async fn run(self, socket: &mut Socket, taken: &AtomicUsize) {
        if matches!(self, Self::UnknownStreams | Self::OpenedStreams) {
            let properties = r#"{"portNumber":"80","type":"LocalPortForwarding"}"#;
            sent(socket, output(PayloadType::HandshakeRequest, 0, &request("Port", properties))).await;
            sent(socket, output(PayloadType::HandshakeComplete, 1, &complete("\"\""))).await;
        }
        let large = vec![b'x'; 64 * 1024];
        let actions = r#"{"ActionType":"SessionType","ActionParameters":{"SessionType":"Standard_Stream"}},"#;
        let handshake = format!(
            r#"{{"AgentVersion":"{}","RequestedClientActions":[{}{{"ActionType":"x"}}]}}"#,
            "9".repeat(100_000),
            actions.repeat(9_000)
        );
        flood(socket, taken, |number| match self {
            Self::Gap => output(PayloadType::Output, number + 1, &large),
            Self::Repetitions => output(PayloadType::Output, 0, b"x"),
            Self::Output => output(PayloadType::Output, number, &large),
            Self::Bytes => output(PayloadType::Output, number, b"x"),
            Self::Acknowledgements => acknowledge(number),
            Self::Pings => Message::Ping(Bytes::from_static(&[b'x'; 125])),
            Self::Handshakes => output(PayloadType::HandshakeRequest, number, handshake.as_bytes()),
            Self::UnknownStreams => {
                output(PayloadType::Output, number + 2, &smux(2, number, &large[..60_000]))
            }
            Self::OpenedStreams => {
                output(PayloadType::Output, number + 2, &smux(0, number, &[]).repeat(1_000))
            }
        })
        .await;
    }

    /// Bytes that are a flood of it: what has to be taken before the client may end or take no more. Without end, that is more than the
    /// sockets hold for a client that reads nothing.
    fn least(self) -> usize {
        match self {
            Self::Output | Self::Handshakes => 256 * 1024,
            _ => 8 * 1024 * 1024,
        }
    }

    fn args(self) -> &'static [&'static str] {
        match self {
            Self::UnknownStreams | Self::OpenedStreams => &["forward", "-L", "0:80"],
            _ => &["shell"],
        }
    }
}

/// A frame of the multiplexer (xtaci/smux `frame.go`): version 1, command, length, stream.
fn smux(command: u8, stream: i64, data: &[u8]) -> Vec<u8> {
    let mut frame = vec![1, command];
    frame.extend_from_slice(&u16::try_from(data.len()).unwrap().to_le_bytes());
    frame.extend_from_slice(&(stream as u32).to_le_bytes());
    frame.extend_from_slice(data);
    frame
}

/// The peak of a client in KiB, at the end of the flood or of the client, and how many bytes it took. Nobody reads its stdout.
fn flooded(flood: Flood) -> (u64, usize) {
    let (over, taken) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let (told, count) = (Arc::clone(&over), Arc::clone(&taken));
    let gateway = Gateway::web_socket(move |mut socket| {
        let (told, count) = (Arc::clone(&told), Arc::clone(&count));
        async move {
            flood.run(&mut socket, &count).await;
            told.store(true, Ordering::Relaxed);
            // Until the client is gone.
            let _ = socket.get_mut().read(&mut [0; 1]).await;
        }
    });
    let mut command = ssm(flood.args());
    command.arg("--attach").env("SSM_ATTACH", gateway.session());
    let mut client =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let (begin, mut most) = (Instant::now(), 0);
    // One that has ended has no memory any more, but a status until it is waited for.
    while !over.load(Ordering::Relaxed) {
        assert!(begin.elapsed() < PATIENCE, "{flood:?} does not end");
        most = most.max(peak(client.id()).unwrap_or_default());
        thread::sleep(Duration::from_millis(5));
    }
    most = most.max(peak(client.id()).unwrap_or_default());
    client.kill().unwrap();
    client.wait().unwrap();
    (most, taken.load(Ordering::Relaxed))
}

#[test]
fn no_flood_takes_more_memory_than_is_promised() {
    for flood in [
        Flood::Gap,
        Flood::Repetitions,
        Flood::Output,
        Flood::Bytes,
        Flood::Acknowledgements,
        Flood::Pings,
        Flood::Handshakes,
        Flood::UnknownStreams,
        Flood::OpenedStreams,
    ] {
        let (peak, taken) = flooded(flood);
        assert!(taken >= flood.least(), "{flood:?}: {taken} bytes");
        assert!(peak > 0 && peak < BOUND, "{flood:?}: {peak} KiB");
    }
}

/// What a gateway writes behind its upgrade, byte for byte.
fn wire(what: fn() -> Vec<u8>) -> Gateway {
    Gateway::web_socket(move |mut socket| async move {
        let stream = socket.get_mut();
        let begin = Instant::now();
        while begin.elapsed() < FLOOD_TIME && stream.write_all(&what()).await.is_ok() {}
        let _ = stream.read(&mut [0; 1]).await;
    })
}

#[test]
fn lengths_that_are_lies_end_the_connection_and_reserve_nothing() {
    for (gateway, name) in [
        // RFC 6455 section 5.2: a binary frame of 2^62 bytes, and one of 512 MiB that comes.
        (wire(|| [&[0x82, 127][..], &(1_u64 << 62).to_be_bytes()].concat()), "2^62"),
        (wire(|| [&[0x82, 127][..], &(1_u64 << 29).to_be_bytes(), &[b'x'; 100_000]].concat()), "512 MiB"),
        // A message whose last frame never comes: opcode 2 or 0, never FIN.
        (wire(|| [&[0x00, 126, 0xff, 0xff][..], &[b'x'; 0xffff]].concat().repeat(8)), "continuation"),
        (wire(|| [&[0x02, 126, 0xff, 0xff][..], &[b'x'; 0xffff]].concat()), "beginning"),
        // A ping may have 125 bytes.
        (wire(|| [&[0x89, 126, 0xff, 0xff][..], &[b'x'; 0xffff]].concat()), "ping"),
        // Reserved bits, as compression sets one that was never offered.
        (wire(|| [&[0xc2, 126, 0xff, 0xff][..], &[b'x'; 0xffff]].concat()), "compressed"),
    ] {
        let mut client = attach(&gateway);
        let most = until_end(&mut client);
        let outcome = client.wait();
        assert_eq!(outcome.status.code(), Some(255), "{name}: {outcome:?}");
        assert!(!outcome.stderr.contains("panicked"), "{name}: {outcome:?}");
        assert!(most < BOUND, "{name}: {most} KiB");
    }
}

#[test]
fn headers_that_are_lies_are_garbage() {
    // The length of the header, and that of the payload (agent `messageparser.go`).
    for (at, value) in [(0, u32::MAX), (0, 0), (0, 1 << 20), (116, u32::MAX), (116, 1 << 31)] {
        let gateway = Gateway::web_socket(move |mut socket| async move {
            for number in 0..64 {
                let mut bytes = output(PayloadType::Output, number, b"data").into_data().to_vec();
                bytes[at..at + 4].copy_from_slice(&value.to_be_bytes());
                sent(&mut socket, Message::binary(bytes)).await;
            }
            let _ = socket.get_mut().read(&mut [0; 1]).await;
        });
        let mut client = attach(&gateway);
        let most = client_peak_within(&mut client, Duration::from_millis(500));
        client.signal(rustix::process::Signal::TERM);
        let outcome = client.wait();
        assert!(!outcome.stderr.contains("panicked") && most < BOUND, "{at} {value}: {most} KiB {outcome:?}");
    }
}

#[test]
fn an_upgrade_that_is_none_ends_at_once_and_is_not_followed_elsewhere() {
    let elsewhere = Gateway::raw(|_| async {});
    let location = elsewhere.url().replace("ws:", "http:");
    let head = "HTTP/1.1 101 Switching Protocols\r\n";
    for (answer, again, told) in [
        (format!("HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n"), "", "HTTP 302"),
        (
            head.into(),
            "X-Long: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n",
            "does not answer",
        ),
        (
            format!("{head}X: "),
            "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
            "does not answer",
        ),
        ("\0".repeat(64), "\0\0\0\0\0\0\0\0", "does not answer"),
    ] {
        let gateway = Gateway::raw(move |mut stream| {
            let answer = answer.clone();
            async move {
                let _ = stream.read(&mut [0; 4096]).await;
                let _ = stream.write_all(answer.as_bytes()).await;
                while !again.is_empty() && stream.write_all(again.repeat(100).as_bytes()).await.is_ok() {}
            }
        });
        let mut client = attach(&gateway);
        let most = until_end(&mut client);
        let outcome = client.wait();
        assert_eq!((outcome.status.code(), outcome.stderr.lines().count()), (Some(255), 1), "{outcome:?}");
        assert!(outcome.stderr.contains(told) && most < BOUND, "{told}: {most} KiB {outcome:?}");
    }
    assert_eq!(elsewhere.connections(), 0);
}

#[test]
fn an_upgrade_that_drips_is_left_at_a_signal() {
    let gateway = Gateway::raw(|mut stream| async move {
        for byte in b"HTTP/1.1 101 Switching Protocols\r\n".iter().cycle() {
            if stream.write_all(&[*byte]).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    let mut client = attach(&gateway);
    client.wait_for(|_| (gateway.connections() > 0).then_some(()));
    client.signal(rustix::process::Signal::INT);
    assert_eq!(client.wait().status.code(), Some(130));
}

/// Writes this answer to every request, and then something without end.
fn api(head: &'static str, part: &'static str) -> Gateway {
    Gateway::raw(move |mut stream| async move {
        let _ = stream.read(&mut [0; 16 * 1024]).await;
        let _ = stream.write_all(head.as_bytes()).await;
        let part = part.repeat(1 + 60_000 / part.len().max(1));
        while !part.is_empty() && stream.write_all(part.as_bytes()).await.is_ok() {}
    })
}

#[test]
fn an_answer_of_an_api_without_end_is_left() {
    const CHUNKED: &str = "HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n";
    const GIANT: &str = "HTTP/1.1 400 X\r\nContent-Length: 99999999999999\r\n\r\n";
    for (head, part) in [
        (CHUNKED, "10\r\n{\"aaaaaaaaaaaaa\r\n"),
        (GIANT, "{{{{{{{{{{{{{{{{{{{{{"),
        ("HTTP/1.1 200 X\r\n", "X: yyyyyyyyyyyyyyyyyyyyyyyyyyyyy\r\n"),
    ] {
        let server = api(head, part);
        let mut command = signed(&["shell", TARGET], &format!("http://127.0.0.1:{}", server.port));
        let mut client = Program::start(command.env("AWS_MAX_ATTEMPTS", "1"));
        let most = until_end(&mut client);
        let outcome = client.wait();
        assert_eq!((outcome.status.code(), outcome.stderr.lines().count()), (Some(255), 1), "{outcome:?}");
        assert!(most < BOUND, "{head}: {most} KiB");
    }
}

#[test]
fn an_api_is_not_followed_elsewhere_and_is_offered_no_compression() {
    let elsewhere = FakeAws::start(|_| (200, "{}".into()));
    let location = elsewhere.url();
    let moved = FakeAws::start(move |_| (302, format!("{location}/\r\n")));
    let mut command = signed(&["shell", TARGET], &moved.url());
    let outcome = Program::start(&mut command).wait();
    assert_eq!((outcome.status.code(), outcome.stderr.lines().count()), (Some(255), 1), "{outcome:?}");
    let asked = moved.asked("POST /");
    assert!(!asked.is_empty() && elsewhere.asked("").is_empty());
    let offered = |asked: &Asked| asked.text.to_ascii_lowercase().contains("accept-encoding");
    assert!(!asked.iter().any(offered), "{asked:?}");
}

#[test]
fn json_of_any_depth_is_an_error() {
    let deep = "[".repeat(100_000);
    let object = r#"{"a":"#.repeat(100_000);
    let bodies = [
        format!(r#"{{"SessionId":{deep}"#),
        format!(r#"{{"Unknown":{deep}{},"SessionId":"s-1"}}"#, "]".repeat(100_000)),
        format!(r#"{{"__type":{object}"#),
        deep.clone(),
    ];
    for (number, body) in bodies.into_iter().enumerate() {
        for status in [200, 400] {
            let body = body.clone();
            let fake = FakeAws::start(move |_| (status, body.clone()));
            let outcome =
                Program::start(signed(&["shell", TARGET], &fake.url()).env("AWS_MAX_ATTEMPTS", "1")).wait();
            assert_eq!(outcome.status.code(), Some(255), "{number} {status}: {outcome:?}");
            assert_eq!(outcome.stderr.lines().count(), 1, "{number} {status}: {outcome:?}");
            assert!(outcome.stderr.len() < 5_000, "{number} {status}");
        }
    }
    // A variable takes 128 KiB.
    for session in ["[".repeat(100_000), r#"{"a":"#.repeat(20_000), format!(r#"{{"SessionId":{deep}"#)] {
        let outcome = Program::start(ssm(&["shell", "--attach"]).env("SSM_ATTACH", &session)).wait();
        assert_eq!((outcome.status.code(), outcome.stderr.lines().count()), (Some(2), 1), "{outcome:?}");
    }
    // The bodies of messages: a handshake, an acknowledgement, the end of a session, a terminal's size.
    let gateway = Gateway::web_socket(move |mut socket| {
        let (deep, object) = (deep.clone(), object.clone());
        async move {
            for body in [&deep, &object] {
                let control = |of| frame(Header::control(of, MessageId::default(), 1), body.as_bytes());
                sent(&mut socket, control(MessageType::Acknowledge)).await;
                sent(&mut socket, control(MessageType::AgentSessionState)).await;
                for kind in [PayloadType::Size, PayloadType::Parameter, PayloadType::Flag] {
                    sent(&mut socket, output(kind, 0, body.as_bytes())).await;
                }
                let closed = Header::service(MessageType::ChannelClosed, MessageId::default(), 1);
                sent(&mut socket, frame(closed, body.as_bytes())).await;
                sent(&mut socket, output(PayloadType::HandshakeRequest, 0, body.as_bytes())).await;
                sent(&mut socket, output(PayloadType::HandshakeRequest, 1, body.as_bytes())).await;
            }
            let _ = socket.get_mut().read(&mut [0; 1]).await;
        }
    });
    let mut client = attach(&gateway);
    let most = until_end(&mut client);
    let outcome = client.wait();
    assert!(outcome.status.code() == Some(255) && most < BOUND, "{most} KiB {outcome:?}");
    assert!(!outcome.stderr.contains("panicked"), "{outcome:?}");
}

/// Each resume works, and what it leads to closes at once.
#[test]
fn a_gateway_that_closes_at_once_is_asked_less_and_less_often() {
    let gateway = Gateway::web_socket(|mut socket| async move {
        let _ = socket.close(None).await;
    });
    let session = gateway.session();
    let fake = FakeAws::start(move |_| (200, session.clone()));
    let mut client = Program::with_stdin(&mut signed(&["shell", TARGET], &fake.url()), Stdio::piped());
    client.wait_for(|_| (gateway.connections() > 3).then_some(()));
    let (before, begin) = (gateway.connections(), worked(client.pid()));
    thread::sleep(Duration::from_secs(2));
    let (times, work) = (gateway.connections() - before, worked(client.pid()) - begin);
    assert!(times <= 12, "{times} connections in 2 s");
    assert!(work < Duration::from_secs(1), "{work:?} of work in 2 s");
    client.signal(rustix::process::Signal::TERM);
    client.wait();
}

/// `ssm` with an account whose APIs are all there.
fn signed(args: &[&str], url: &str) -> Command {
    let mut command = ssm(args);
    command.env("AWS_ENDPOINT_URL", url).env("AWS_REGION", "eu-west-1");
    command.env("AWS_ACCESS_KEY_ID", "AKIDKEY").env("AWS_SECRET_ACCESS_KEY", "secret");
    command
}

/// A shell at a gateway, with a stdin that does not end.
fn attach(gateway: &Gateway) -> Program {
    let mut command = ssm(&["shell", "--attach"]);
    Program::with_stdin(command.env("SSM_ATTACH", gateway.session()), Stdio::piped())
}

/// The peak of a client until it has ended, in KiB.
fn until_end(client: &mut Program) -> u64 {
    client_peak_within(client, PATIENCE)
}

/// The peak of a client for this time, or until it has ended, in KiB.
fn client_peak_within(client: &mut Program, time: Duration) -> u64 {
    let (begin, mut most) = (Instant::now(), 0);
    while let Some(peak) = peak(client.pid()).filter(|_| begin.elapsed() < time) {
        most = most.max(peak);
        thread::sleep(Duration::from_millis(2));
    }
    most
}
