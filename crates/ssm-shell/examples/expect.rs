//! A session that a program types into and reads, as `expect` does: no terminal is needed, and none is touched.
//!
//! `cargo run -p ssm-shell --example expect`

use std::error::Error;
use std::time::Duration;

use ssm_loopback::{Config, Loopback};
use ssm_session::{Session, StartSession, TerminalSize};
use ssm_shell::{Controls, Io};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::time::timeout;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    // AWS in one process. With an account, `AwsControl` takes the place of `loopback.control()`.
    let loopback = Loopback::start(Config { shell: Some("/bin/sh".into()), ..Config::default() }).await?;
    let request = StartSession::shell(loopback.target());
    let session = Session::start(loopback.control(), &request, ssm_session::Config::default()).await?;

    let (input, session_input) = duplex(4096);
    let (output, session_output) = duplex(64 * 1024);
    let io = Io::streams(session_input, session_output, tokio::io::sink());
    let (io, controls) = io.controlled(TerminalSize { cols: 132, rows: 40 });
    let conversation = async {
        let mut dialogue = Dialogue { input, output, controls, unread: String::new() };
        let said = converse(&mut dialogue).await;
        if said.is_err() {
            dialogue.controls.end();
        }
        said
    };
    let (exit, said) = tokio::join!(ssm_shell::run(session, io, |_| {}), conversation);
    said?;
    println!("{}", exit?.reason);
    Ok(())
}

async fn converse(shell: &mut Dialogue) -> Result<(), Box<dyn Error>> {
    // A prompt that is not in the line that sets it, which is echoed.
    shell.send("stty -echo; PS1='rea''dy> '").await?;
    shell.expect("ready> ").await?;
    println!("the terminal is {}", shell.ask("stty size").await?);

    shell.send("sh -c 'echo asleep; exec sleep 1000'").await?;
    shell.expect("asleep").await?;
    shell.controls.interrupt();
    shell.expect("ready> ").await?;
    println!("an interrupted program ends with {}", shell.ask("echo $?").await?);

    shell.send("exit").await
}

/// Both ends of a conversation with a shell.
struct Dialogue {
    input: DuplexStream,
    output: DuplexStream,
    controls: Controls,
    unread: String,
}

impl Dialogue {
    /// Types a line.
    async fn send(&mut self, line: &str) -> Result<(), Box<dyn Error>> {
        self.input.write_all(line.as_bytes()).await?;
        // What the Enter key is.
        Ok(self.input.write_all(b"\r").await?)
    }

    /// Reads up to `text`; returns what was in front of it.
    async fn expect(&mut self, text: &str) -> Result<String, Box<dyn Error>> {
        let mut buf = [0; 4096];
        loop {
            if let Some(at) = self.unread.find(text) {
                let rest = self.unread.split_off(at + text.len());
                let mut front = std::mem::replace(&mut self.unread, rest);
                front.truncate(at);
                return Ok(front);
            }
            let read = timeout(Duration::from_secs(10), self.output.read(&mut buf));
            match read.await.map_err(|_| format!("no {text:?} in {:?}", self.unread))?? {
                0 => return Err(format!("the session ended without {text:?}").into()),
                len => self.unread += &String::from_utf8_lossy(&buf[..len]),
            }
        }
    }

    /// What a command writes.
    async fn ask(&mut self, command: &str) -> Result<String, Box<dyn Error>> {
        self.send(command).await?;
        Ok(self.expect("ready> ").await?.trim().to_owned())
    }
}
