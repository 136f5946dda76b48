//! `ssm forward` with TCP servers.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread;

use tempfile::TempDir;

use crate::support::process::Process;
use crate::support::server::{Server, connect};
use crate::support::{FAST, Loopback, file_digest, random_file};

#[test]
fn a_large_file_arrives_unchanged_each_way() {
    const LEN: usize = 256 * 1024 * 1024;
    let loopback = Loopback::start();
    let folder = TempDir::new().unwrap();
    let (original, digest) = random_file(folder.path(), LEN);
    let (uploaded, downloaded) = (folder.path().join("uploaded"), folder.path().join("downloaded"));

    let into = uploaded.clone();
    let server = Server::start(move |mut stream| {
        io::copy(&mut (&stream).take(LEN as u64), &mut File::create(&into)?)?;
        stream.write_all(b"got it")
    });
    let forward = loopback.forward(server.port(), FAST);
    let mut stream = connect(forward.local);
    io::copy(&mut File::open(&original).unwrap(), &mut stream).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "got it");
    assert_eq!(file_digest(&uploaded), digest);
    forward.stop();

    let server = Server::start(move |mut stream| {
        io::copy(&mut File::open(&uploaded)?, &mut stream)?;
        stream.shutdown(Shutdown::Both)
    });
    let forward = loopback.forward(server.port(), FAST);
    io::copy(&mut connect(forward.local), &mut File::create(&downloaded).unwrap()).unwrap();
    assert_eq!(fs::metadata(&downloaded).unwrap().len(), LEN as u64);
    assert_eq!(file_digest(&downloaded), digest);
}

#[test]
fn many_connections_at_once_and_one_after_another() {
    let loopback = Loopback::start();
    let server = Server::echo();
    let forward = loopback.forward(server.port(), FAST);
    let local = forward.local;
    let threads: Vec<_> = (0..20_u8)
        .map(|number| {
            thread::spawn(move || {
                for round in 0..10_u8 {
                    let data = vec![number ^ round; 10_000];
                    assert!(
                        exchange(&mut connect(local), &data) == data,
                        "connection {number}, round {round}"
                    );
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert_eq!(server.connections(), 200);
    let mut left = connect(local);
    assert_eq!(exchange(&mut left, b"still here"), b"still here");
}

#[test]
fn a_request_that_ends_gets_the_whole_answer() {
    let loopback = Loopback::start();
    let server = Server::start(|mut stream| {
        let mut request = [0; 7];
        stream.read_exact(&mut request)?;
        for part in 0..50_u8 {
            stream.write_all(&[part; 20_000])?;
        }
        stream.shutdown(Shutdown::Both)
    });
    let forward = loopback.forward(server.port(), &[]);
    let mut stream = connect(forward.local);
    stream.write_all(b"request").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let expected: Vec<u8> = (0..50).flat_map(|part| [part; 20_000]).collect();
    assert!(answer == expected, "{} bytes", answer.len());
}

#[test]
fn a_refused_destination_resets_and_is_told() {
    let loopback = Loopback::start();
    let closed = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
    let forward = loopback.forward(closed, &[]);
    let mut stream = connect(forward.local);
    let error = stream.read(&mut [0]).expect_err("no orderly end");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    forward.process.until_says("ssm: connection 1: the target could not connect to");
    let said = forward.stop();
    assert!(said.contains(&format!("port {closed} of the target")), "{said}");
}

#[test]
fn a_free_port_is_found_told_and_open_on_both_addresses() {
    let loopback = Loopback::start();
    let server = Server::echo();
    let forward = loopback.forward(server.port(), &[]);
    let mut addresses = vec![SocketAddr::from((Ipv4Addr::LOCALHOST, forward.local.port()))];
    if TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok() {
        addresses.push((Ipv6Addr::LOCALHOST, forward.local.port()).into());
    }
    for address in addresses {
        assert_eq!(exchange(&mut connect(address), b"hello"), b"hello", "{address}");
    }
    assert_eq!(forward.process.stdout(), "", "stdout belongs to the user");
}

#[test]
fn one_command_carries_several_forwards_also_to_hosts() {
    let loopback = Loopback::start();
    let (first, second) = (Server::echo(), Server::echo());
    let specs = [format!("0:{}", first.port()), format!("127.0.0.1:0:localhost:{}", second.port())];
    let mut command = loopback.ssm(&["forward", &loopback.target, "-L", &specs[0], "-L", &specs[1]]);
    let process = Process::spawn(&mut command);
    let ports: Vec<u16> = process.until("two ports", |text| {
        let found = text.split("listening on 127.0.0.1:").skip(1);
        let ports: Vec<u16> = found
            .filter_map(|rest| rest.split_once(|char: char| !char.is_ascii_digit())?.0.parse().ok())
            .collect();
        (ports.len() == 2).then_some(ports)
    });
    for port in ports {
        assert_eq!(exchange(&mut connect((Ipv4Addr::LOCALHOST, port)), b"hello"), b"hello");
    }
    assert_eq!((first.connections(), second.connections()), (1, 1));
}

/// Sends `data` and reads as much back.
pub(crate) fn exchange(stream: &mut TcpStream, data: &[u8]) -> Vec<u8> {
    let mut write = stream.try_clone().unwrap();
    thread::scope(|scope| {
        scope.spawn(move || write.write_all(data).unwrap());
        let mut back = vec![0; data.len()];
        stream.read_exact(&mut back).unwrap();
        back
    })
}
