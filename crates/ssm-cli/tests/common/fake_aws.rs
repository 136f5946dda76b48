//! A few APIs of AWS on a port of this machine, in plain HTTP, and a home with AWS files in it.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use rcgen::CertificateParams;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::outside::certified;

/// What the token of the metadata service needs; nobody else minds.
const METADATA_TTL: &str = "X-Aws-Ec2-Metadata-Token-Ttl-Seconds: 21600";

/// What somebody asked for.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    /// Where a proxy is to lead; empty without one.
    pub(crate) host: String,
    /// `POST /token`
    pub(crate) line: String,
    /// Head and body.
    pub(crate) text: String,
}

impl Asked {
    /// The access key that signed it.
    pub(crate) fn key(&self) -> &str {
        let key = self.text.split_once("Credential=").and_then(|(_, rest)| rest.split_once('/'));
        key.map_or("", |(key, _)| key)
    }

    /// `AmazonSSM.StartSession`, as SDKs say it in `X-Amz-Target`.
    pub(crate) fn target(&self) -> Option<&str> {
        let mut head = self.text.lines().take_while(|line| !line.is_empty());
        head.find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("x-amz-target").then(|| value.trim())
        })
    }

    /// `StartSession` of it.
    pub(crate) fn operation(&self) -> Option<&str> {
        self.target()?.rsplit('.').next()
    }

    pub(crate) fn has(&self, text: &str) -> bool {
        self.text.contains(text)
    }
}

/// What stands in front of the APIs.
#[derive(Debug)]
pub(crate) enum Front {
    Plain,
    /// TLS, with this certificate.
    Tls(CertificateParams),
    /// A proxy that opens TLS, whoever is meant; it speaks HTTP and SOCKS5.
    Proxy(CertificateParams),
}

/// Whose certificate it is.
pub(crate) const AUTHORITY: &str = "Corp Inspection CA";

/// The server. What it answers is the test's affair.
pub(crate) struct FakeAws {
    address: SocketAddr,
    front: Arc<Front>,
    /// Has the certificate of the authority.
    folder: tempfile::TempDir,
    /// How many seconds its clock is ahead of ours; `None` when it does not tell the time.
    ahead: Arc<Mutex<Option<i64>>>,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl FakeAws {
    /// `answer` gives a status and a body.
    pub(crate) fn start(answer: impl Fn(&Asked) -> (u16, String) + Send + Sync + 'static) -> Self {
        Self::behind(Front::Plain, answer)
    }

    /// The same behind something else.
    pub(crate) fn behind(
        front: Front,
        answer: impl Fn(&Asked) -> (u16, String) + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let fake = Self {
            address: listener.local_addr().unwrap(),
            front: Arc::new(front),
            folder: tempfile::tempdir().unwrap(),
            ahead: Arc::default(),
            asked: Arc::default(),
        };
        let tls = match &*fake.front {
            Front::Plain => None,
            Front::Tls(certificate) | Front::Proxy(certificate) => {
                Some(certified(certificate, AUTHORITY, &fake.bundle()))
            }
        };
        let answer = Arc::new(answer);
        let (front, ahead, asked) =
            (Arc::clone(&fake.front), Arc::clone(&fake.ahead), Arc::clone(&fake.asked));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (front, tls, answer) = (Arc::clone(&front), tls.clone(), Arc::clone(&answer));
                let (ahead, asked) = (Arc::clone(&ahead), Arc::clone(&asked));
                thread::spawn(move || {
                    if let Some((host, stream)) = received(stream, &front, tls) {
                        serve(stream, &host, &ahead, &asked, &*answer);
                    }
                });
            }
        });
        fake
    }

    /// With a clock that is this many seconds ahead of ours.
    pub(crate) fn at(self, ahead: i64) -> Self {
        *self.ahead.lock().unwrap() = Some(ahead);
        self
    }

    /// Where it is: the APIs, or the proxy.
    pub(crate) fn url(&self) -> String {
        match &*self.front {
            Front::Plain | Front::Proxy(_) => format!("http://{}", self.address),
            Front::Tls(_) => format!("https://localhost:{}", self.address.port()),
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The file of the authority.
    pub(crate) fn bundle(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// What was asked for in lines that begin like this.
    pub(crate) fn asked(&self, line: &str) -> Vec<Asked> {
        let asked = self.asked.lock().unwrap();
        asked.iter().filter(|asked| asked.line.starts_with(line)).cloned().collect()
    }

    /// What was asked for with this in it.
    pub(crate) fn asked_with(&self, text: &str) -> Vec<Asked> {
        self.asked("").into_iter().filter(|asked| asked.has(text)).collect()
    }

    /// Leads all APIs to it.
    pub(crate) fn apply(&self, command: &mut Command) {
        match &*self.front {
            Front::Plain | Front::Tls(_) => command.env("AWS_ENDPOINT_URL", self.url()),
            Front::Proxy(_) => command.env("HTTPS_PROXY", self.url()),
        };
        if !matches!(*self.front, Front::Plain) {
            command.env("AWS_CA_BUNDLE", self.bundle());
        }
    }
}

trait Duplex: Read + Write + Send {}

impl<T: Read + Write + Send> Duplex for T {}

/// The host that is meant, where a proxy is told, and the stream to answer on.
fn received(
    mut stream: TcpStream,
    front: &Front,
    tls: Option<Arc<ServerConfig>>,
) -> Option<(String, BufReader<Box<dyn Duplex>>)> {
    let host = match front {
        Front::Proxy(_) => led_to(&mut stream)?,
        Front::Plain | Front::Tls(_) => String::new(),
    };
    let stream: Box<dyn Duplex> = match tls {
        None => Box::new(stream),
        Some(tls) => Box::new(StreamOwned::new(ServerConnection::new(tls).unwrap(), stream)),
    };
    Some((host, BufReader::new(stream)))
}

/// Whom a client of the proxy wants to talk to: with CONNECT, or with SOCKS5.
fn led_to(stream: &mut TcpStream) -> Option<String> {
    let mut first = [0];
    stream.read_exact(&mut first).ok()?;
    if first == [5] {
        let mut methods = [0; 2];
        stream.read_exact(&mut methods).ok()?;
        assert_eq!(methods, [1, 0], "no login");
        stream.write_all(&[5, 0]).ok()?;
        let mut request = [0; 5];
        stream.read_exact(&mut request).ok()?;
        assert_eq!(request[..4], [5, 1, 0, 3], "a name");
        let mut name = vec![0; usize::from(request[4]) + 2];
        stream.read_exact(&mut name).ok()?;
        stream.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).ok()?;
        name.truncate(name.len() - 2);
        return String::from_utf8(name).ok();
    }
    let mut head = first.to_vec();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).ok()?;
        head.extend_from_slice(&byte);
    }
    let head = String::from_utf8(head).unwrap();
    stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").ok()?;
    Some(head.strip_prefix("CONNECT ").unwrap().split(':').next().unwrap().to_owned())
}

fn serve(
    mut stream: BufReader<Box<dyn Duplex>>,
    host: &str,
    ahead: &Mutex<Option<i64>>,
    asked: &Mutex<Vec<Asked>>,
    answer: &dyn Fn(&Asked) -> (u16, String),
) {
    while let Some(request) = request(&mut stream) {
        let request = Asked { host: host.to_owned(), ..request };
        asked.lock().unwrap().push(request.clone());
        let (status, body) = answer(&request);
        let ahead = *ahead.lock().unwrap();
        let date = ahead.map(|ahead| format!("Date: {}\r\n", date(ahead))).unwrap_or_default();
        let head = format!(
            "HTTP/1.1 {status} X\r\n{date}Content-Type: application/json\r\nContent-Length: {}\r\n{METADATA_TTL}\r\n\r\n",
            body.len()
        );
        if stream.get_mut().write_all((head + &body).as_bytes()).is_err() {
            return;
        }
    }
}

/// The time, as HTTP writes it.
fn date(ahead: i64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let seconds = format!("@{}", now.checked_add_signed(ahead).unwrap());
    let mut command = Command::new("date");
    let out = command.env("LC_ALL", "C").args(["-u", "-d", &seconds, "+%a, %d %b %Y %T GMT"]).output();
    String::from_utf8(out.unwrap().stdout).unwrap().trim().to_owned()
}

/// The next request of a connection; `None` at its end.
pub(crate) fn request(stream: &mut impl BufRead) -> Option<Asked> {
    let (mut text, mut length) = (String::new(), 0);
    loop {
        let start = text.len();
        if stream.read_line(&mut text).ok()? == 0 {
            return None;
        }
        let line = text[start..].trim_end().to_ascii_lowercase();
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
        if line.is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    text.push_str(&String::from_utf8_lossy(&body));
    let line = text.lines().next()?.trim_end_matches(" HTTP/1.1").to_owned();
    Some(Asked { host: String::new(), line, text })
}

/// A home with AWS files in it.
pub(crate) struct Home {
    folder: tempfile::TempDir,
}

impl Home {
    pub(crate) fn new(config: &str) -> Self {
        let home = Self { folder: tempfile::tempdir().unwrap() };
        fs::create_dir_all(home.file(".aws")).unwrap();
        fs::write(home.file(".aws/config"), config).unwrap();
        home
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Has a program live here.
    pub(crate) fn apply(&self, command: &mut Command) {
        command.env("HOME", self.folder.path()).env("AWS_CONFIG_FILE", self.file(".aws/config"));
        command.env("AWS_REGION", "eu-west-1").env("AWS_DEFAULT_REGION", "eu-west-1");
        for name in ["DISPLAY", "WAYLAND_DISPLAY", "SSH_CONNECTION", "SSH_TTY"] {
            command.env_remove(name);
        }
    }
}

/// The answer of `AssumeRole`.
pub(crate) fn role(key: &str, secret: &str, until: &str) -> String {
    format!(
        "<AssumeRoleResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><AssumeRoleResult><Credentials>\
         <AccessKeyId>{key}</AccessKeyId><SecretAccessKey>{secret}</SecretAccessKey><SessionToken>t</SessionToken>\
         <Expiration>{until}</Expiration></Credentials><AssumedRoleUser><AssumedRoleId>AROA:s</AssumedRoleId>\
         <Arn>arn:aws:sts::123456789012:assumed-role/R/s</Arn></AssumedRoleUser></AssumeRoleResult></AssumeRoleResponse>"
    )
}

/// What an API that everybody is refused by answers, in JSON.
pub(crate) fn denied() -> (u16, String) {
    (400, r#"{"__type":"AccessDeniedException","message":"User: u is not authorized to perform: ssm:StartSession on resource: arn:aws:ssm:eu-west-1::document/X"}"#.into())
}

/// An error of STS.
pub(crate) fn sts_error(code: &str, message: &str) -> (u16, String) {
    let error = format!("<Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message></Error>");
    (
        403,
        format!("<ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">{error}</ErrorResponse>"),
    )
}
