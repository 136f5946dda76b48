//! A few APIs of AWS on a port of this machine, in plain HTTP, and a home with AWS files in it.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;

/// What the token of the metadata service needs; nobody else minds.
const METADATA_TTL: &str = "X-Aws-Ec2-Metadata-Token-Ttl-Seconds: 21600";

/// What somebody asked for.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
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

/// The server. What it answers is the test's affair.
pub(crate) struct FakeAws {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl FakeAws {
    /// `answer` gives a status and a body.
    pub(crate) fn start(answer: impl Fn(&Asked) -> (u16, String) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let fake = Self { address: listener.local_addr().unwrap(), asked: Arc::default() };
        let (asked, answer) = (Arc::clone(&fake.asked), Arc::new(answer));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (asked, answer) = (Arc::clone(&asked), Arc::clone(&answer));
                thread::spawn(move || serve(stream, &asked, &*answer));
            }
        });
        fake
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
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
        command.env("AWS_ENDPOINT_URL", self.url());
    }
}

fn serve(stream: TcpStream, asked: &Mutex<Vec<Asked>>, answer: &dyn Fn(&Asked) -> (u16, String)) {
    let mut stream = BufReader::new(stream);
    while let Some(request) = request(&mut stream) {
        asked.lock().unwrap().push(request.clone());
        let (status, body) = answer(&request);
        let head = format!(
            "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {}\r\n{METADATA_TTL}\r\n\r\n",
            body.len()
        );
        if stream.get_mut().write_all((head + &body).as_bytes()).is_err() {
            return;
        }
    }
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
    Some(Asked { line, text })
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
