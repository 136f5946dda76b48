//! What a proxy client asks for: SOCKS5 (RFC 1928) or HTTP CONNECT (RFC 9110), told apart by their first byte.
//!
//! Names are not looked up here: they go to the far side as they are.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::Destination;
use crate::spec;

/// Longest head of an HTTP request.
const HEAD_MAX: usize = 8 * 1024;

/// Most headers of an HTTP request.
const HEADERS_MAX: usize = 64;

const SOCKS5: u8 = 5;

/// The successful answer to a SOCKS request, with no address worth telling.
const SOCKS_ACCEPTED: &[u8] = &[SOCKS5, 0, 0, 1, 0, 0, 0, 0, 0, 0];

const HTTP_ACCEPTED: &[u8] = b"HTTP/1.1 200 Connection established\r\n\r\n";
const HTTP_REFUSED: &[u8] = b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

/// A request that can be served.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Request {
    /// Where the client wants to go.
    pub(crate) destination: Destination,
    /// What it has sent behind the request.
    pub(crate) early: Bytes,
    /// What to answer when the destination can be reached.
    pub(crate) accepted: Bytes,
    /// What to answer when it cannot.
    pub(crate) refused: Bytes,
}

/// Why a client is not served. It was told where its protocol has words for it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NegotiateError {
    #[error("the client was gone: {0}")]
    Io(#[from] io::Error),
    #[error("the client speaks neither SOCKS5 nor HTTP")]
    Protocol,
    #[error("the client wants {0}")]
    Unsupported(&'static str),
    #[error("the client names no destination: {0}")]
    Destination(&'static str),
}

/// Reads the request of a new client.
pub(crate) async fn negotiate<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
) -> Result<Request, NegotiateError> {
    match stream.read_u8().await? {
        SOCKS5 => socks5(stream).await,
        4 => Err(NegotiateError::Unsupported("SOCKS4; only SOCKS5 is served")),
        first if first.is_ascii_uppercase() => connect(stream, first).await,
        _ => Err(NegotiateError::Protocol),
    }
}

async fn socks5<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S) -> Result<Request, NegotiateError> {
    let mut methods = vec![0; usize::from(stream.read_u8().await?)];
    stream.read_exact(&mut methods).await?;
    if !methods.contains(&0) {
        stream.write_all(&[SOCKS5, 0xff]).await?;
        return Err(NegotiateError::Unsupported("SOCKS5 with a password; there is none here"));
    }
    stream.write_all(&[SOCKS5, 0]).await?;
    let mut head = [0; 4];
    stream.read_exact(&mut head).await?;
    let [version, command, _reserved, address] = head;
    if version != SOCKS5 {
        return Err(NegotiateError::Protocol);
    }
    let host = match address {
        1 => Ipv4Addr::from(stream.read_u32().await?).to_string(),
        4 => Ipv6Addr::from(stream.read_u128().await?).to_string(),
        3 => {
            let mut name = vec![0; usize::from(stream.read_u8().await?)];
            stream.read_exact(&mut name).await?;
            String::from_utf8(name).unwrap_or_default()
        }
        _ => {
            stream.write_all(&socks_refusal(8)).await?;
            return Err(NegotiateError::Unsupported("an address of an unknown type"));
        }
    };
    let port = stream.read_u16().await?;
    if command != 1 {
        stream.write_all(&socks_refusal(7)).await?;
        return Err(NegotiateError::Unsupported(
            "something else than a connection: UDP and BIND cannot be carried",
        ));
    }
    match spec::destination(&host, &port.to_string()) {
        Ok(destination) => Ok(Request {
            destination,
            early: Bytes::new(),
            accepted: Bytes::from_static(SOCKS_ACCEPTED),
            refused: Bytes::copy_from_slice(&socks_refusal(4)),
        }),
        Err(reason) => {
            stream.write_all(&socks_refusal(1)).await?;
            Err(NegotiateError::Destination(reason))
        }
    }
}

fn socks_refusal(code: u8) -> [u8; 10] {
    [SOCKS5, code, 0, 1, 0, 0, 0, 0, 0, 0]
}

async fn connect<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    first: u8,
) -> Result<Request, NegotiateError> {
    let mut head = vec![first];
    loop {
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut request = httparse::Request::new(&mut headers);
        match request.parse(&head) {
            Ok(httparse::Status::Complete(len)) => {
                let (method, path) = (request.method.unwrap_or_default(), request.path.unwrap_or_default());
                if method != "CONNECT" {
                    refuse_http(stream, "405 Method Not Allowed").await?;
                    return Err(NegotiateError::Unsupported("an HTTP request; only CONNECT is served"));
                }
                return match authority(path) {
                    Ok(destination) => Ok(Request {
                        destination,
                        early: Bytes::copy_from_slice(&head[len..]),
                        accepted: Bytes::from_static(HTTP_ACCEPTED),
                        refused: Bytes::from_static(HTTP_REFUSED),
                    }),
                    Err(reason) => {
                        refuse_http(stream, "400 Bad Request").await?;
                        Err(NegotiateError::Destination(reason))
                    }
                };
            }
            Ok(httparse::Status::Partial) if head.len() < HEAD_MAX => {
                if stream.read_buf(&mut (&mut head).limit_to(HEAD_MAX)).await? == 0 {
                    return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
                }
            }
            Ok(httparse::Status::Partial) => {
                refuse_http(stream, "431 Request Header Fields Too Large").await?;
                return Err(NegotiateError::Protocol);
            }
            Err(_malformed) => {
                refuse_http(stream, "400 Bad Request").await?;
                return Err(NegotiateError::Protocol);
            }
        }
    }
}

/// `host:port`, IPv6 addresses in brackets.
fn authority(text: &str) -> Result<Destination, &'static str> {
    let (host, port) = text.rsplit_once(':').ok_or("it has no port")?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    spec::destination(host, port)
}

async fn refuse_http<S: AsyncWrite + Unpin>(stream: &mut S, status: &str) -> io::Result<()> {
    let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    stream.write_all(answer.as_bytes()).await
}

/// Limits how far a buffer may grow.
trait LimitTo: bytes::BufMut + Sized {
    fn limit_to(self, max: usize) -> bytes::buf::Limit<Self>;
}

impl LimitTo for &mut Vec<u8> {
    fn limit_to(self, max: usize) -> bytes::buf::Limit<Self> {
        let room = max.saturating_sub(self.len());
        bytes::BufMut::limit(self, room)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a client that sends `input` gets, and what is made of it.
    async fn ask(input: &[u8]) -> (Result<Request, NegotiateError>, Vec<u8>) {
        let (mut client, mut server) = tokio::io::duplex(64 * 1024);
        client.write_all(input).await.unwrap();
        client.shutdown().await.unwrap();
        let result = negotiate(&mut server).await;
        drop(server);
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.unwrap();
        (result, answer)
    }

    fn host(host: &str, port: u16) -> Destination {
        Destination::Host { host: host.into(), port }
    }

    #[tokio::test]
    async fn socks5_destinations_of_every_type_are_read() {
        let greeting = [5, 2, 2, 0];
        for (address, expected) in [
            (&[1, 10, 0, 0, 7, 0, 80][..], host("10.0.0.7", 80)),
            (&[3, 3, b'd', b'.', b'e', 1, 187], host("d.e", 443)),
            (&[4, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7, 0, 22], host("fd00::7", 22)),
        ] {
            let input = [&greeting[..], &[5, 1, 0], address].concat();
            let (result, answer) = ask(&input).await;
            assert_eq!(result.unwrap().destination, expected);
            assert_eq!(answer, [5, 0]);
        }
    }

    #[tokio::test]
    async fn a_connect_request_keeps_what_follows_it() {
        let (result, answer) = ask(b"CONNECT [fd00::7]:443 HTTP/1.1\r\nHost: x\r\n\r\nearly").await;
        let request = result.unwrap();
        assert_eq!(request.destination, host("fd00::7", 443));
        assert_eq!(&request.early[..], b"early");
        assert!(answer.is_empty());
    }

    #[tokio::test]
    async fn what_cannot_be_served_is_told_so() {
        for (input, answer) in [
            (&b"GET http://h/ HTTP/1.1\r\n\r\n"[..], &b"HTTP/1.1 405 "[..]),
            (b"CONNECT h HTTP/1.1\r\n\r\n", b"HTTP/1.1 400 "),
            (b"CONNECT h:0 HTTP/1.1\r\n\r\n", b"HTTP/1.1 400 "),
            (b"CONNECT \x01:80 HTTP/1.1\r\n\r\n", b"HTTP/1.1 400 "),
            (&[5, 1, 2], &[5, 0xff]),
            (&[5, 1, 0, 5, 3, 0, 1, 1, 2, 3, 4, 0, 80], &[5, 0, 5, 7]),
            (&[5, 1, 0, 5, 1, 0, 9, 1, 2, 3, 4, 0, 80], &[5, 0, 5, 8]),
            (&[5, 1, 0, 5, 1, 0, 3, 2, b'-', b'x', 0, 80], &[5, 0, 5, 1]),
            (&[4, 1, 0, 80], &[]),
            (b"\x16\x03\x01", b""),
        ] {
            let (result, got) = ask(input).await;
            assert!(result.is_err(), "{}", input.escape_ascii());
            assert!(got.starts_with(answer), "{}: {}", input.escape_ascii(), got.escape_ascii());
        }
    }

    #[tokio::test]
    async fn an_endless_head_is_cut_off() {
        let mut input = b"CONNECT h:80 HTTP/1.1\r\n".to_vec();
        input.resize(3 * HEAD_MAX, b'x');
        let (result, answer) = ask(&input).await;
        assert!(result.is_err());
        assert!(answer.starts_with(b"HTTP/1.1 4"), "{}", answer.escape_ascii());
    }
}
