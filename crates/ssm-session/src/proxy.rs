//! Proxies on the way out: HTTP CONNECT (RFC 9110 section 9.3.6) and SOCKS5 (RFC 1928, RFC 1929).
//!
//! What a proxy answers is read byte for byte up to its end, so nothing of what follows is lost.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use http::HeaderValue;
use hyper_util::client::proxy::matcher::Intercept;
use ssm_proto::Secret;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::network::Destination;

/// Longest answer to CONNECT that is read.
const ANSWER_MAX: usize = 16 * 1024;

/// Most header fields of an answer to CONNECT.
const FIELDS_MAX: usize = 64;

/// Longest name, user name and password in SOCKS5.
const SOCKS_FIELD_MAX: usize = 255;

/// A proxy, and who we are to it.
#[derive(Debug)]
pub(crate) struct Proxy {
    scheme: &'static str,
    protocol: Protocol,
    host: String,
    port: u16,
}

#[derive(Debug)]
enum Protocol {
    Connect { secure: bool, authorization: Option<HeaderValue> },
    Socks { lookup: Lookup, login: Option<Login> },
}

/// Who finds the address of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lookup {
    Here,
    Proxy,
}

#[derive(Debug)]
struct Login {
    user: String,
    password: Secret<String>,
}

impl Proxy {
    /// The proxy of a rule; `None` when its protocol is not known.
    pub(crate) fn new(rule: Intercept) -> Option<Self> {
        let authorization = rule.basic_auth().cloned();
        let login = rule.raw_auth().map(|(user, password)| Login {
            user: user.to_owned(),
            password: Secret::new(password.to_owned()),
        });
        let (scheme, port, protocol) = match rule.uri().scheme_str()? {
            "http" => ("http", 80, Protocol::Connect { secure: false, authorization }),
            "https" => ("https", 443, Protocol::Connect { secure: true, authorization }),
            "socks5" => ("socks5", 1080, Protocol::Socks { lookup: Lookup::Here, login }),
            "socks5h" => ("socks5h", 1080, Protocol::Socks { lookup: Lookup::Proxy, login }),
            _ => return None,
        };
        let authority = rule.uri().authority()?;
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = match authority.port_u16() {
            Some(port) => port,
            None if authority.as_str().ends_with(authority.host()) => port,
            None => return None,
        };
        (!host.is_empty()).then_some(Self { scheme, protocol, host, port })
    }

    /// Where it is.
    pub(crate) fn place(&self) -> Destination<'_> {
        let secure = matches!(self.protocol, Protocol::Connect { secure: true, .. });
        Destination { host: &self.host, port: self.port, secure }
    }

    /// Asks the proxy on `stream` to lead on to `to`. In words, why it does not.
    pub(crate) async fn lead<S>(&self, stream: &mut S, to: Destination<'_>) -> Result<(), String>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        match &self.protocol {
            Protocol::Connect { authorization, .. } => connect(stream, to, authorization.as_ref()).await,
            Protocol::Socks { lookup, login } => socks(stream, to, *lookup, login.as_ref()).await,
        }
    }
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme, self.place())
    }
}

async fn connect<S>(
    stream: &mut S,
    to: Destination<'_>,
    authorization: Option<&HeaderValue>,
) -> Result<(), String>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut request = format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n").into_bytes();
    if let Some(value) = authorization {
        request.extend_from_slice(b"Proxy-Authorization: ");
        request.extend_from_slice(value.as_bytes());
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(b"\r\n");
    let request = Secret::new(request);
    stream.write_all(request.expose()).await.map_err(lost)?;
    stream.flush().await.map_err(lost)?;
    match (status(stream).await?, authorization) {
        (200..=299, _) => Ok(()),
        (407, None) => Err("it wants a user name and a password (HTTP 407): put them into its URL, as in \
            http://USER:PASSWORD@HOST:PORT"
            .into()),
        (407, Some(_)) => Err("it does not take the user name and the password in its URL (HTTP 407)".into()),
        (status, _) => Err(format!("it refuses, with HTTP {status}")),
    }
}

/// Reads an answer up to its empty line.
async fn status<S: AsyncRead + Unpin>(stream: &mut S) -> Result<u16, String> {
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        if answer.len() == ANSWER_MAX {
            return Err("its answer is too long".into());
        }
        answer.push(stream.read_u8().await.map_err(lost)?);
    }
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut response = httparse::Response::new(&mut fields);
    match (response.parse(&answer), response.code) {
        (Ok(httparse::Status::Complete(_)), Some(code)) => Ok(code),
        _ => Err("it does not answer like an HTTP proxy".into()),
    }
}

async fn socks<S>(
    stream: &mut S,
    to: Destination<'_>,
    lookup: Lookup,
    login: Option<&Login>,
) -> Result<(), String>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let offer: &[u8] = if login.is_some() { &[5, 2, 0, 2] } else { &[5, 1, 0] };
    stream.write_all(offer).await.map_err(lost)?;
    let mut choice = [0; 2];
    stream.read_exact(&mut choice).await.map_err(lost)?;
    match (choice, login) {
        ([5, 0], _) => {}
        ([5, 2], Some(login)) => authenticate(stream, login).await?,
        ([5, _], None) => {
            return Err("it wants a user name and a password: put them into its URL, as in \
                socks5h://USER:PASSWORD@HOST:PORT"
                .into());
        }
        ([5, _], Some(_)) => return Err("it takes no user name and password".into()),
        _ => return Err("it does not answer like a SOCKS5 proxy".into()),
    }
    let mut request = vec![5, 1, 0];
    address(&mut request, to, lookup).await?;
    request.extend_from_slice(&to.port.to_be_bytes());
    stream.write_all(&request).await.map_err(lost)?;
    let mut reply = [0; 4];
    stream.read_exact(&mut reply).await.map_err(lost)?;
    match reply {
        [5, 0, _, _] => {}
        [5, code, _, _] => return Err(refusal(code)),
        _ => return Err("it does not answer like a SOCKS5 proxy".into()),
    }
    let bound = match reply[3] {
        1 => 4,
        3 => usize::from(stream.read_u8().await.map_err(lost)?),
        4 => 16,
        _ => return Err("it does not answer like a SOCKS5 proxy".into()),
    };
    let mut rest = [0; SOCKS_FIELD_MAX + 2];
    stream.read_exact(&mut rest[..bound + 2]).await.map_err(lost)?;
    Ok(())
}

async fn authenticate<S>(stream: &mut S, login: &Login) -> Result<(), String>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut request = Secret::new(vec![1]);
    for text in [&login.user, login.password.expose()] {
        let length = u8::try_from(text.len()).map_err(|_| "its user name or password is too long")?;
        request.expose_mut().push(length);
        request.expose_mut().extend_from_slice(text.as_bytes());
    }
    stream.write_all(request.expose()).await.map_err(lost)?;
    let mut answer = [0; 2];
    stream.read_exact(&mut answer).await.map_err(lost)?;
    match answer {
        [_, 0] => Ok(()),
        _ => Err("it does not take the user name and the password in its URL".into()),
    }
}

/// Writes the destination as an address, or as a name that the proxy looks up.
async fn address(request: &mut Vec<u8>, to: Destination<'_>, lookup: Lookup) -> Result<(), String> {
    let literal = to.host.parse::<IpAddr>().ok();
    let address = match (literal, lookup) {
        (Some(address), _) => Some(address),
        (None, Lookup::Proxy) => None,
        (None, Lookup::Here) => {
            let mut found = tokio::net::lookup_host((to.host, to.port)).await.map_err(|error| {
                format!("{} was not found here: {error}; with socks5h:// the proxy looks it up", to.host)
            })?;
            found.next().as_ref().map(SocketAddr::ip)
        }
    };
    match address {
        Some(IpAddr::V4(address)) => {
            request.push(1);
            request.extend_from_slice(&address.octets());
        }
        Some(IpAddr::V6(address)) => {
            request.push(4);
            request.extend_from_slice(&address.octets());
        }
        None => {
            request.push(3);
            request.push(u8::try_from(to.host.len()).map_err(|_| "the name is too long for it")?);
            request.extend_from_slice(to.host.as_bytes());
        }
    }
    Ok(())
}

/// The replies of RFC 1928 section 6.
fn refusal(code: u8) -> String {
    let words = match code {
        1 => "it failed",
        2 => "its rules do not allow it",
        3 => "it has no way to the network",
        4 => "it has no way to the host",
        5 => "the connection was refused",
        6 => "the connection timed out",
        _ => "it refuses",
    };
    format!("{words} (SOCKS reply {code})")
}

#[expect(clippy::needless_pass_by_value, reason = "the shape of an error conversion")]
fn lost(error: std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::UnexpectedEof => "it hung up".into(),
        _ => format!("the connection to it was lost: {error}"),
    }
}
