use std::time::Duration;

use super::*;
use crate::KEEP_ALIVE_TIMEOUT;

#[test]
fn item_94_the_first_client_stream_is_3_and_the_step_is_2() {
    let (mut client, now) = mux(Side::Client);
    let ids: Vec<u32> = (0..3).map(|_| client.open(now).unwrap().into()).collect();
    assert_eq!(ids, [3, 5, 7]);
}

#[test]
fn used_up_ids_are_an_error() {
    let (mut client, now) = mux(Side::Client);
    client.next_id = Some(u32::MAX);
    assert_eq!(client.open(now), Ok(StreamId::from(u32::MAX)));
    assert_eq!(client.open(now), Err(OpenError::IdsExhausted));
    assert_eq!(client.open(now), Err(OpenError::IdsExhausted));
}

#[test]
fn syn_travels_in_front_of_the_first_data_only() {
    let (mut client, now) = mux(Side::Client);
    let id = client.open(now).unwrap();
    assert_eq!(client.poll_transmit(), None);
    assert_eq!(client.data_overhead(id), 16);
    assert_eq!(*client.push(id, 2).unwrap(), [1, 0, 0, 0, 3, 0, 0, 0, 1, 2, 2, 0, 3, 0, 0, 0]);
    assert_eq!(client.data_overhead(id), 8);
    assert_eq!(*client.push(id, 1).unwrap(), [1, 2, 1, 0, 3, 0, 0, 0]);
    client.handle_timeout(now + Duration::from_secs(1));
    assert_eq!((client.poll_transmit(), client.poll_timeout()), (None, None));
}

#[test]
fn syn_leaves_alone_when_no_data_comes_in_time() {
    let (mut client, now) = mux(Side::Client);
    let id = client.open(now).unwrap();
    let due = client.poll_timeout().unwrap();
    assert_eq!(due, now + Duration::from_millis(1));
    client.handle_timeout(due - Duration::from_micros(1));
    assert_eq!(client.poll_transmit(), None);
    client.handle_timeout(due);
    assert_eq!(client.poll_timeout(), None);
    assert_eq!(client.poll_transmit(), Some(Frame::Syn(id).encode()));
    assert_eq!(client.push(id, 1).unwrap().len(), HEADER_LEN);
}

#[test]
fn data_takes_along_a_syn_that_is_queued() {
    let (mut client, now) = mux(Side::Client);
    let id = client.open(now).unwrap();
    client.handle_timeout(now + Duration::from_millis(1));
    assert_eq!(client.push(id, 1).unwrap().len(), DataHeader::MAX_LEN);
    assert_eq!(client.poll_transmit(), None);
}

#[test]
fn without_a_delay_syn_is_ready_at_once() {
    let now = start();
    let config = Config { syn_delay: Duration::ZERO, ..Config::default() };
    let mut client = Mux::new(Side::Client, config, now);
    let id = client.open(now).unwrap();
    assert_eq!(client.poll_timeout(), None);
    assert_eq!(client.poll_transmit(), Some(Frame::Syn(id).encode()));
}

#[test]
fn fin_never_overtakes_syn() {
    let (mut client, now) = mux(Side::Client);
    let id = client.open(now).unwrap();
    client.finish(id);
    assert_eq!(client.take_fin(id), None);
    assert_eq!(sent(&mut client), [Frame::Syn(id), Frame::Fin(id)].map(Frame::encode));
}

#[test]
fn fin_is_sent_once() {
    let (mut client, now) = mux(Side::Client);
    let id = client.open(now).unwrap();
    client.push(id, 1).unwrap();
    client.finish(id);
    client.finish(id);
    assert_eq!(client.take_fin(id), Some(Frame::Fin(id).encode()));
    client.finish(id);
    assert_eq!(client.take_fin(id), None);
    assert_eq!(client.poll_transmit(), None);
}

#[test]
fn a_finished_stream_takes_no_data() {
    let (mut client, now) = mux(Side::Client);
    let id = client.open(now).unwrap();
    client.finish(id);
    assert_eq!(client.push(id, 1), Err(WriteError::Finished));
    sent(&mut client);
    assert_eq!(client.push(id, 1), Err(WriteError::Finished));
}

#[test]
fn a_stream_the_peer_closed_takes_no_data() {
    let (mut client, now) = mux(Side::Client);
    let id = client.open(now).unwrap();
    client.push(id, 1).unwrap();
    input(&mut client, &[Frame::Fin(id)]);
    assert_eq!(client.push(id, 1), Err(WriteError::PeerFinished));
}

#[test]
fn item_98_a_frame_is_at_most_as_long_as_configured() {
    let now = start();
    let config = Config { max_frame: u16::MAX, ..Config::default() };
    let mut client = Mux::new(Side::Client, config, now);
    let id = client.open(now).unwrap();
    for len in [65_536, usize::MAX] {
        assert_eq!(client.push(id, len), Err(WriteError::TooLong { max: 65_535 }));
    }
    assert_eq!(client.push(id, 65_535).unwrap()[8..12], [1, 2, 0xff, 0xff]);

    let (mut client, now) = mux(Side::Client);
    let id = client.open(now).unwrap();
    assert_eq!(client.push(id, 32_769), Err(WriteError::TooLong { max: 32_768 }));
    assert_eq!(client.push(id, 32_768).unwrap().len(), 16, "the SYN was not lost to the error");
}

#[test]
fn a_stream_is_gone_after_both_fins() {
    let (mut client, now) = mux(Side::Client);
    let id = client.open(now).unwrap();
    client.push(id, 1).unwrap();
    client.finish(id);
    sent(&mut client);
    assert_eq!(client.stream_count(), 1);
    input(&mut client, &[Frame::Fin(id)]);
    assert_eq!(client.poll_event(), Some(Event::Finished { id }));
    assert_eq!(client.stream_count(), 0);
    assert_eq!(client.push(id, 1), Err(WriteError::UnknownStream));
}

#[test]
fn a_stream_stays_until_its_bytes_are_given_back() {
    let (mut server, id) = accepted();
    data(&mut server, id, b"abc");
    input(&mut server, &[Frame::Fin(id)]);
    server.finish(id);
    sent(&mut server);
    assert_eq!((server.unconsumed(), server.unconsumed_of(id)), (3, 3));
    server.consumed(id, 2);
    assert_eq!((server.unconsumed(), server.stream_count()), (1, 1));
    server.consumed(id, 5);
    assert_eq!((server.unconsumed(), server.stream_count()), (0, 0));
}

#[test]
fn item_100_data_after_our_fin_is_skipped() {
    let (mut server, id) = accepted();
    server.finish(id);
    data(&mut server, id, b"late");
    assert_eq!((server.poll_event(), server.unconsumed()), (None, 0));
}

#[test]
fn item_100_data_after_the_peers_fin_is_skipped() {
    let (mut server, id) = accepted();
    input(&mut server, &[Frame::Fin(id), Frame::Fin(id)]);
    data(&mut server, id, b"late");
    assert_eq!(server.poll_event(), Some(Event::Finished { id }));
    assert_eq!((server.poll_event(), server.unconsumed()), (None, 0));
}

#[test]
fn the_rest_of_a_frame_is_skipped_once_the_stream_is_forgotten() {
    let (mut server, id) = accepted();
    input(&mut server, &[Frame::Psh(id, 4)]);
    server.handle_input(Bytes::from_static(b"ab")).unwrap();
    server.forget(id);
    assert_eq!((server.poll_event(), server.unconsumed()), (None, 0));
    assert_eq!(sent(&mut server), [Frame::Fin(id).encode()]);
    assert_eq!(server.stream_count(), 0);
    server.handle_input(Bytes::from_static(b"cd")).unwrap();
    input(&mut server, &[Frame::Syn(StreamId::from(5))]);
    assert_eq!(server.poll_event(), Some(Event::Opened { id: StreamId::from(5) }));
}

#[test]
fn a_forgotten_unannounced_stream_leaves_no_trace() {
    let (mut client, now) = mux(Side::Client);
    let held = client.open(now).unwrap();
    client.forget(held);
    let queued = client.open(now).unwrap();
    client.handle_timeout(now + Duration::from_millis(1));
    client.forget(queued);
    assert_eq!((client.poll_transmit(), client.poll_timeout()), (None, None));
    assert_eq!(client.stream_count(), 0);
}

#[test]
fn a_forgotten_stream_that_was_finished_needs_no_answer() {
    let (mut client, now) = mux(Side::Client);
    let id = client.open(now).unwrap();
    client.finish(id);
    sent(&mut client);
    client.forget(id);
    assert_eq!((client.poll_transmit(), client.stream_count()), (None, 0));
}

#[test]
fn a_second_syn_is_ignored() {
    let (mut server, id) = accepted();
    input(&mut server, &[Frame::Syn(id)]);
    assert_eq!((server.poll_event(), server.poll_transmit()), (None, None));
}

#[test]
fn the_server_accepts_any_parity() {
    let (mut server, _) = mux(Side::Server);
    for number in [0, 1, 4, u32::MAX] {
        let id = StreamId::from(number);
        input(&mut server, &[Frame::Syn(id)]);
        assert_eq!(server.poll_event(), Some(Event::Opened { id }));
    }
}

#[test]
fn a_client_refuses_streams_with_a_fin() {
    let (mut client, _) = mux(Side::Client);
    let id = StreamId::from(2);
    input(&mut client, &[Frame::Syn(id)]);
    assert_eq!(client.poll_event(), None);
    assert_eq!(sent(&mut client), [Frame::Fin(id).encode()]);
}

#[test]
fn a_server_does_not_open() {
    let (mut server, now) = mux(Side::Server);
    assert_eq!(server.open(now), Err(OpenError::ServerSide));
}

#[test]
fn the_number_of_streams_is_limited() {
    let config = Config { max_streams: 2, ..Config::default() };
    let now = start();
    let mut client = Mux::new(Side::Client, config.clone(), now);
    let first = client.open(now).unwrap();
    client.open(now).unwrap();
    assert_eq!(client.open(now), Err(OpenError::TooManyStreams));
    client.forget(first);
    assert_eq!(client.open(now), Ok(StreamId::from(7)));

    let mut server = Mux::new(Side::Server, config, now);
    input(&mut server, &[3, 5, 7].map(|number| Frame::Syn(number.into())));
    assert_eq!(server.stream_count(), 2);
    assert_eq!(sent(&mut server), [Frame::Fin(7.into()).encode()]);
}

#[test]
fn refusals_are_limited() {
    let (mut client, _) = mux(Side::Client);
    for number in 0..5000 {
        input(&mut client, &[Frame::Syn(number.into())]);
    }
    assert_eq!(sent(&mut client).len(), MAX_REFUSED);
}

#[test]
fn item_97_a_bad_frame_is_fatal_and_what_came_before_it_stands() {
    let (mut server, id) = accepted();
    let mut bytes = Frame::Psh(id, 2).encode().to_vec();
    bytes.extend(b"ok");
    bytes.extend([9; 8]);
    let error = FrameError::Version(9);
    assert_eq!(server.handle_input(bytes.into()), Err(error));
    server.finish(id);
    assert_eq!(server.poll_event(), Some(Event::Data { id, data: Bytes::from_static(b"ok") }));
    assert_eq!(server.handle_input(Bytes::new()), Err(error));
    assert_eq!(server.push(id, 1), Err(WriteError::Dead(error)));
    assert_eq!(server.open(start()), Err(OpenError::Dead(error)));
    assert_eq!((server.poll_transmit(), server.poll_timeout()), (None, None));
}

#[test]
fn item_99_keep_alive_is_off_by_default() {
    let (mut client, now) = mux(Side::Client);
    assert_eq!(client.poll_timeout(), None);
    client.handle_timeout(now + Duration::from_secs(600));
    assert_eq!((client.poll_event(), client.poll_transmit()), (None, None));
}

#[test]
fn item_99_a_nop_leaves_every_ten_seconds() {
    let (mut client, now) = alive();
    for round in 1..=2 {
        let due = client.poll_timeout().unwrap();
        assert_eq!(due, now + round * Duration::from_secs(10));
        client.handle_timeout(due);
        assert_eq!(sent(&mut client), [Frame::Nop.encode()]);
    }
}

#[test]
fn a_silent_peer_is_reported_once() {
    let (mut client, now) = alive();
    client.handle_timeout(now + Duration::from_secs(30));
    assert_eq!(client.poll_event(), Some(Event::PeerSilent));
    client.handle_timeout(now + Duration::from_secs(90));
    assert_eq!(client.poll_event(), None);
}

#[test]
fn any_frame_counts_until_the_next_look_out() {
    let (mut client, now) = alive();
    input(&mut client, &[Frame::Nop]);
    client.handle_timeout(now + Duration::from_secs(30));
    assert_eq!(client.poll_event(), None);
    client.handle_timeout(now + Duration::from_secs(59));
    assert_eq!(client.poll_event(), None);
    client.handle_timeout(now + Duration::from_secs(60));
    assert_eq!(client.poll_event(), Some(Event::PeerSilent));
}

#[test]
fn a_peer_we_do_not_listen_to_is_not_silent() {
    let now = start();
    let config = Config { receive_limit: 3, ..Config::default().with_keep_alive() };
    let mut server = Mux::new(Side::Server, config, now);
    let id = StreamId::from(3);
    input(&mut server, &[Frame::Syn(id)]);
    data(&mut server, id, b"abc");
    while server.poll_event().is_some() {}
    for round in 1..=3 {
        server.handle_timeout(now + round * KEEP_ALIVE_TIMEOUT);
        assert_eq!(server.poll_event(), None);
    }
    server.consumed(id, 1);
    server.handle_timeout(now + 4 * KEEP_ALIVE_TIMEOUT);
    assert_eq!(server.poll_event(), Some(Event::PeerSilent));
}

#[test]
fn requests_for_a_nop_are_merged() {
    let (mut client, _) = mux(Side::Client);
    client.queue_nop();
    client.queue_nop();
    assert_eq!(sent(&mut client), [Frame::Nop.encode()]);
}

fn mux(side: Side) -> (Mux, Instant) {
    let now = start();
    (Mux::new(side, Config::default(), now), now)
}

fn alive() -> (Mux, Instant) {
    let now = start();
    (Mux::new(Side::Client, Config::default().with_keep_alive(), now), now)
}

/// A server with one accepted stream.
fn accepted() -> (Mux, StreamId) {
    let (mut server, _) = mux(Side::Server);
    let id = StreamId::from(3);
    input(&mut server, &[Frame::Syn(id)]);
    assert_eq!(server.poll_event(), Some(Event::Opened { id }));
    (server, id)
}

fn input(mux: &mut Mux, frames: &[Frame]) {
    for frame in frames {
        mux.handle_input(Bytes::copy_from_slice(&frame.encode())).unwrap();
    }
}

fn data(mux: &mut Mux, id: StreamId, data: &'static [u8]) {
    input(mux, &[Frame::Psh(id, data.len().try_into().unwrap())]);
    mux.handle_input(Bytes::from_static(data)).unwrap();
}

fn sent(mux: &mut Mux) -> Vec<[u8; HEADER_LEN]> {
    std::iter::from_fn(|| mux.poll_transmit()).collect()
}

#[expect(
    clippy::disallowed_methods,
    reason = "an instant can only be had from the clock; none is read again"
)]
fn start() -> Instant {
    Instant::now()
}
