//! What each fault of a session does, seen by a client that knows nothing of the protocol.

use ssm_proto::body::HandshakeRequest;
use ssm_proto::{DecodeError, Layout};

use super::*;

const DOWN: MessageType = MessageType::OutputStreamData;
const UP: MessageType = MessageType::InputStreamData;

#[tokio::test]
async fn loss_takes_messages_of_its_direction_only() {
    let rig = Rig::faulty(&["loss=50%,direction=down,seed=1"]).await;
    let (mut client, mut agent) = rig.pair("s").await;
    for n in 0..100 {
        agent.send(data(DOWN, n, 10)).await.unwrap();
        client.send(data(UP, n, 10)).await.unwrap();
    }
    for n in 0..100 {
        assert_eq!(sequence(&message(&mut agent).await), n);
    }
    let arrived = until_pong(&mut client).await;
    assert!((30..70).contains(&arrived.len()), "{arrived:?}");
    assert!(arrived.is_sorted());
}

#[tokio::test]
async fn the_same_seed_takes_the_same_messages() {
    let mut runs = Vec::new();
    for seed in ["seed=1", "seed=1", "seed=2"] {
        let rig = Rig::faulty(&["loss=20%", "duplicate=20%", seed]).await;
        let (mut client, mut agent) = rig.pair("s").await;
        for n in 0..200 {
            agent.send(data(DOWN, n, 10)).await.unwrap();
        }
        runs.push(until_pong_after(&mut agent, &mut client).await);
    }
    assert_eq!(runs[0], runs[1]);
    assert_ne!(runs[0], runs[2]);
}

#[tokio::test]
async fn duplicates_come_twice_and_what_is_reordered_comes_late() {
    let rig = Rig::faulty(&["duplicate=100%,times=1", "reorder=100%,by=50ms,times=1"]).await;
    let (mut client, mut agent) = rig.pair("s").await;
    for n in 0..3 {
        agent.send(data(DOWN, n, 10)).await.unwrap();
    }
    let mut received = Vec::new();
    for _ in 0..4 {
        received.push(sequence(&message(&mut client).await));
    }
    assert_eq!(received, [1, 2, 0, 0]);
}

#[tokio::test]
async fn a_delay_keeps_the_order() {
    let rig = Rig::faulty(&["delay=200ms"]).await;
    let (mut client, mut agent) = rig.pair("s").await;
    let start = Instant::now();
    for n in 0..20 {
        agent.send(data(DOWN, n, 10)).await.unwrap();
    }
    for n in 0..20 {
        assert_eq!(sequence(&message(&mut client).await), n);
    }
    assert!(start.elapsed() >= Duration::from_millis(200), "{:?}", start.elapsed());
}

#[tokio::test]
async fn bandwidth_is_bounded_and_felt_by_the_sender() {
    let rig = Rig::faulty(&["bandwidth=1MiB/s,direction=down"]).await;
    let (mut client, mut agent) = rig.pair("s").await;
    let start = Instant::now();
    let all = async {
        tokio::join!(
            async {
                for n in 0..64 {
                    agent.send(data(DOWN, n, 16 * 1024)).await.unwrap();
                }
            },
            async {
                for n in 0..64 {
                    assert_eq!(sequence(&message(&mut client).await), n);
                }
            }
        )
    };
    all.await;
    assert!(start.elapsed() >= Duration::from_millis(900), "1 MiB in {:?}", start.elapsed());
}

#[tokio::test]
async fn corruption_flips_one_bit_that_the_digest_shows() {
    let rig = Rig::faulty(&["corrupt=100%,times=20"]).await;
    let (mut client, mut agent) = rig.pair("s").await;
    for n in 0..21 {
        let sent = data(DOWN, n, 100);
        agent.send(sent.clone()).await.unwrap();
        let (sent, received) = (sent.into_data(), message(&mut client).await.into_data());
        let flipped: u32 = sent.iter().zip(&received).map(|(a, b)| (a ^ b).count_ones()).sum();
        assert_eq!((sent.len(), flipped), (received.len(), u32::from(n < 20)));
        let decoded = ssm_proto::Message::decode(received, Strictness::Lenient).map(drop);
        assert_eq!(decoded, if n < 20 { Err(DecodeError::Digest) } else { Ok(()) });
    }
}

#[tokio::test]
async fn a_cut_has_no_closing_frame_and_a_close_has_its_code() {
    for (fault, code, text) in [
        ("close=1000,every=1,times=1", Some(1000), "Bye"),
        ("close=1001,every=1,times=1", Some(1001), ""),
        ("close=1011,every=1,times=1", Some(1011), ""),
        ("close=1006,every=1,times=1", None, ""),
        ("cut=1,times=1", None, ""),
        ("reset=1,times=1", None, ""),
    ] {
        let rig = Rig::faulty(&[fault]).await;
        let (mut client, mut agent) = rig.pair("s").await;
        agent.send(data(DOWN, 0, 10)).await.unwrap();
        if code.is_some() {
            assert_eq!(sequence(&message(&mut client).await), 0, "{fault}");
        }
        match (timeout(SOON, client.next()).await.unwrap(), code) {
            (Some(Ok(Message::Close(Some(frame)))), Some(code)) => {
                assert_eq!((u16::from(frame.code), frame.reason.as_str()), (code, text), "{fault}");
            }
            (Some(Err(error)), None) => {
                assert_eq!(
                    error.to_string().contains("reset by peer"),
                    fault.starts_with("reset"),
                    "{error}"
                );
            }
            (other, _) => panic!("{fault}: {other:?}"),
        }
        expect_service(&mut agent, MessageType::PausePublication).await;
        let mut again = rig.attach("s", Role::Client).await;
        expect_service(&mut agent, MessageType::StartPublication).await;
        agent.send(data(DOWN, 1, 10)).await.unwrap();
        assert_eq!(sequence(&message(&mut again).await), 1, "{fault} strikes once");
    }
}

#[tokio::test]
async fn cuts_come_by_the_clock_without_any_message() {
    let rig = Rig::faulty(&["close=1000,every=100ms,jitter=50ms"]).await;
    let _relay = rig.session("s");
    for _ in 0..3 {
        let mut client = rig.attach("s", Role::Client).await;
        assert!(matches!(message(&mut client).await, Message::Close(Some(_))));
    }
}

#[tokio::test]
async fn the_agents_socket_can_be_lost_too() {
    let rig = Rig::faulty(&["cut=1,end=agent,times=1"]).await;
    let (mut client, mut agent) = rig.pair("s").await;
    client.send(data(UP, 0, 10)).await.unwrap();
    assert!(!matches!(timeout(SOON, agent.next()).await.unwrap(), Some(Ok(_))));
    expect_service(&mut client, MessageType::PausePublication).await;
}

#[tokio::test]
async fn a_silent_socket_is_open_and_dead() {
    let rig = Rig::faulty(&["silence=1,for=300ms,times=1"]).await;
    let (mut client, mut agent) = rig.pair("s").await;
    let start = Instant::now();
    agent.send(data(DOWN, 0, 10)).await.unwrap();
    agent.send(data(DOWN, 1, 10)).await.unwrap();
    ping(&mut agent).await;
    // Not even a ping is answered while it lasts.
    ping(&mut client).await;
    assert!(start.elapsed() >= Duration::from_millis(300), "{:?}", start.elapsed());
    agent.send(data(DOWN, 2, 10)).await.unwrap();
    assert_eq!(sequence(&message(&mut client).await), 2);

    let rig = Rig::faulty(&["silence=1,times=1"]).await;
    let (mut client, mut agent) = rig.pair("s").await;
    agent.send(data(DOWN, 0, 10)).await.unwrap();
    ping(&mut agent).await;
    client.send(Message::Ping(Bytes::new())).await.unwrap();
    assert!(timeout(Duration::from_millis(300), client.next()).await.is_err());
    let mut again = rig.attach("s", Role::Client).await;
    agent.send(data(DOWN, 1, 10)).await.unwrap();
    assert_eq!(sequence(&message(&mut again).await), 1);
}

#[tokio::test]
async fn a_silence_ends_in_time_when_its_fault_has_gone() {
    let rig = Rig::start(Config::default()).await;
    let (mut client, mut agent) = rig.pair("s").await;
    let start = Instant::now();
    let guard = rig.service.faults.add("silence=1,for=500ms,times=1".parse().unwrap());
    agent.send(data(DOWN, 0, 10)).await.unwrap();
    ping(&mut agent).await;
    drop(guard);
    ping(&mut client).await;
    assert!(start.elapsed() >= Duration::from_millis(500), "{:?}", start.elapsed());
    agent.send(data(DOWN, 1, 10)).await.unwrap();
    assert_eq!(sequence(&message(&mut client).await), 1);
}

#[tokio::test]
async fn a_pause_without_start_and_a_start_before_everything() {
    let rig = Rig::faulty(&["start=early", "pause=1,direction=up,times=1"]).await;
    let _relay = rig.session("s");
    let mut agent = rig.attach("s", Role::Agent).await;
    let mut client = rig.connect("s").await;
    client.send(open_text(&rig.token("s", Role::Client))).await.unwrap();
    expect_service(&mut client, MessageType::StartPublication).await;
    expect_service(&mut agent, MessageType::StartPublication).await;
    client.send(data(UP, 0, 10)).await.unwrap();
    assert_eq!(sequence(&message(&mut agent).await), 0);
    expect_service(&mut client, MessageType::PausePublication).await;
    client.send(data(UP, 1, 10)).await.unwrap();
    assert_eq!(sequence(&message(&mut agent).await), 1);
    ping(&mut client).await;
}

#[tokio::test]
async fn a_rate_of_messages_is_paused_and_then_cut() {
    let rig = Rig::faulty(&["rate=50/s"]).await;
    let (client, _agent) = rig.pair("s").await;
    let (mut out, mut back) = client.split();
    let flood = async {
        let mut tick = tokio::time::interval(Duration::from_millis(5));
        loop {
            tick.tick().await;
            if out.send(data(UP, 0, 1)).await.is_err() {
                return;
            }
        }
    };
    let notice = async {
        let frame = back.next().await.unwrap().unwrap().into_data();
        assert_eq!(Header::decode(&frame).unwrap().message_type, MessageType::PausePublication);
        assert!(!matches!(back.next().await, Some(Ok(_))));
    };
    timeout(SOON, async { tokio::join!(flood, notice) }).await.expect("the client is cut");
}

#[tokio::test]
async fn the_header_of_service_messages_has_both_lengths() {
    for (fault, layout) in [("header=112", Layout::Service), ("header=116", Layout::Standard)] {
        let rig = Rig::faulty(&[fault, "start=early"]).await;
        let _relay = rig.session("s");
        let mut client = rig.connect("s").await;
        client.send(open_text(&rig.token("s", Role::Client))).await.unwrap();
        let frame = message(&mut client).await.into_data();
        assert_eq!(Header::decode(&frame).unwrap().layout, layout);
    }
}

#[tokio::test]
async fn a_message_comes_as_text_or_behind_bytes_that_are_no_text() {
    let rig = Rig::faulty(&["text=1,times=1"]).await;
    let (mut client, mut agent) = rig.pair("s").await;
    // What tungstenite can deliver is delivered as text.
    agent.send(Message::binary("plain")).await.unwrap();
    agent.send(data(DOWN, 3, 10)).await.unwrap();
    assert_eq!(message(&mut client).await, Message::binary("plain"), "no message, no fault");
    let error = timeout(SOON, client.next()).await.unwrap().unwrap().unwrap_err();
    assert!(matches!(error, Error::Utf8(_)), "a digest is seldom text: {error}");

    let rig = Rig::faulty(&["text=1,bytes=raw,times=1"]).await;
    let (mut client, mut agent) = rig.pair("s").await;
    agent.send(data(DOWN, 3, 10)).await.unwrap();
    let error = timeout(SOON, client.next()).await.unwrap().unwrap().unwrap_err();
    assert!(matches!(error, Error::Utf8(_)), "{error}");
}

#[tokio::test]
async fn frames_come_in_fragments_beyond_and_up_to_the_limit() {
    let rig = Rig::faulty(&["fragment=100"]).await;
    let (mut client, mut agent) = rig.pair("s").await;
    for len in [0, 1, 79, 80, 81, 10_000] {
        let sent = data(DOWN, len as i64, len);
        agent.send(sent.clone()).await.unwrap();
        assert_eq!(message(&mut client).await, sent);
    }

    let rig = Rig::faulty(&["oversize=1,size=1MiB,times=1"]).await;
    let (mut client, mut agent) = rig.pair("s").await;
    agent.send(data(DOWN, 1, 10)).await.unwrap();
    assert_eq!(message(&mut client).await.len(), 1024 * 1024);
    assert_eq!(sequence(&message(&mut client).await), 1);

    let rig = Rig::faulty(&["oversize=1,times=1"]).await;
    let (mut client, mut agent) = rig.pair("s").await;
    agent.send(data(DOWN, 1, 10)).await.unwrap();
    let error = timeout(SOON, client.next()).await.unwrap().unwrap().unwrap_err();
    assert!(matches!(error, Error::Capacity(_)), "{error}");
}

#[tokio::test]
async fn a_client_that_sends_more_than_the_gateway_takes_is_closed_with_1009() {
    let rig = Rig::faulty(&["frame=4KiB"]).await;
    let (mut client, mut agent) = rig.pair("s").await;
    client.send(data(UP, 0, 4096 - 120)).await.unwrap();
    assert_eq!(sequence(&message(&mut agent).await), 0);
    client.send(data(UP, 1, 4096 - 119)).await.unwrap();
    let Message::Close(Some(frame)) = message(&mut client).await else { panic!("a closing frame") };
    assert_eq!(frame.code, CloseCode::Size);
}

#[tokio::test]
async fn an_action_that_nobody_knows_is_asked_for_with_a_right_digest() {
    let rig = Rig::faulty(&["handshake=unknown"]).await;
    let (mut client, mut agent) = rig.pair("s").await;
    let request = HandshakeRequest { agent_version: "3.3.987.0".into(), actions: Vec::new() }.encode();
    let id = MessageId::from_random([3; 16]);
    let header = Header::stream(DOWN, PayloadType::HandshakeRequest, 0, id, 1_700_000_000_000);
    let mut buf = MessageBuf::with_capacity(request.len());
    buf.put_slice(&request);
    agent.send(Message::Binary(buf.finish(header))).await.unwrap();
    let frame = message(&mut client).await.into_data();
    let received = ssm_proto::Message::decode(frame, Strictness::Strict).unwrap();
    assert_eq!((received.header.sequence, received.header.id), (0, id));
    let request = HandshakeRequest::decode(&received.payload).unwrap();
    assert_eq!(request.actions.len(), 1);
    assert!(!["SessionType", "KMSEncryption"].contains(&request.actions[0].action_type()));
}

#[tokio::test]
async fn a_restart_takes_both_sockets_and_the_session() {
    let rig = Rig::faulty(&["restart=1,times=1"]).await;
    let (mut client, mut agent) = rig.pair("s").await;
    client.send(data(UP, 0, 10)).await.unwrap();
    for end in [&mut client, &mut agent] {
        assert!(!matches!(timeout(SOON, end.next()).await.unwrap(), Some(Ok(_))), "nobody is told");
    }
    assert!(rig.service.resume_session("s").unwrap().channel.is_none());
}

#[tokio::test]
async fn faults_come_and_go_while_a_session_runs() {
    let rig = Rig::start(Config::default()).await;
    let (mut client, mut agent) = rig.pair("s").await;
    let mut send = async |n, arrives: bool| {
        agent.send(data(DOWN, n, 10)).await.unwrap();
        ping(&mut agent).await;
        client.send(Message::Ping(Bytes::new())).await.unwrap();
        let first = message(&mut client).await;
        assert_eq!(first.is_pong(), !arrives, "{n}: {first:?}");
        if arrives {
            assert!(message(&mut client).await.is_pong());
        }
    };
    send(0, true).await;
    let guard = rig.service.faults.add("loss=100%".parse().unwrap());
    send(1, false).await;
    drop(guard);
    send(2, true).await;
}

/// The numbers of what has arrived before the answer to a ping.
async fn until_pong(socket: &mut Socket) -> Vec<i64> {
    socket.send(Message::Ping(Bytes::new())).await.unwrap();
    let mut arrived = Vec::new();
    loop {
        match message(socket).await {
            Message::Pong(_) => return arrived,
            message => arrived.push(sequence(&message)),
        }
    }
}

/// As [`until_pong`], when the relay has seen all that the other end has sent.
async fn until_pong_after(from: &mut Socket, to: &mut Socket) -> Vec<i64> {
    ping(from).await;
    until_pong(to).await
}
