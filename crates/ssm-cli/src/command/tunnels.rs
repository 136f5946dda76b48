//! `ssm tunnels`

use std::process::ExitCode;
use std::time::Duration;

use serde_json::json;

use crate::args::{StopArgs, TunnelsArgs, TunnelsCommand};
use crate::error::Error;
use crate::output::{Bytes, Json, complain, print, say, unix_time};
use crate::registry::{self, ForwardState, Peer, PeerError, Tunnel};
use crate::table::Table;

/// Runs the command.
pub(crate) async fn run(args: &TunnelsArgs) -> Result<ExitCode, Error> {
    let peers = registry::peers().map_err(Error::local("cannot look for tunnels"))?;
    match &args.command {
        Some(TunnelsCommand::Stop(stop_args)) => stop(&peers, stop_args).await,
        None => {
            let tunnels = list(&peers).await;
            let text = if args.json { lines(&tunnels) } else { table(&tunnels, unix_time().as_secs()) };
            if tunnels.is_empty() {
                say("no tunnels");
            }
            print(&text)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// The tunnels as a table for a person, or that there are none.
pub(super) async fn shown(peers: &[Peer]) -> String {
    match list(peers).await {
        tunnels if tunnels.is_empty() => "no tunnels".to_owned(),
        tunnels => table(&tunnels, unix_time().as_secs()),
    }
}

/// How each of those is that are not over.
pub(super) async fn list(peers: &[Peer]) -> Vec<(&Peer, Result<Tunnel, PeerError>)> {
    let answers = ask_all(peers, async |peer| peer.status().await).await;
    let answered = peers.iter().zip(answers);
    answered.filter(|(_, answer)| !matches!(answer, Err(PeerError::Gone))).collect()
}

pub(super) async fn stop(peers: &[Peer], args: &StopArgs) -> Result<ExitCode, Error> {
    let known = |id: &&String| peers.iter().any(|peer| peer.id == **id);
    let mut missing: Vec<&str> = args.ids.iter().filter(|id| !known(id)).map(String::as_str).collect();
    let wanted = peers.iter().filter(|peer| args.all || args.ids.contains(&peer.id));
    let wanted: Vec<Peer> = wanted.cloned().collect();
    let mut going_on = 0;
    for (peer, stopped) in wanted.iter().zip(ask_all(&wanted, async |peer| peer.stop().await).await) {
        match stopped {
            Ok(()) => say(format_args!("tunnel {} has ended", peer.id)),
            Err(PeerError::Gone) if args.all => {}
            Err(PeerError::Gone) => missing.push(&peer.id),
            Err(error) => {
                going_on += 1;
                complain(format_args!("tunnel {} goes on: {error}", peer.id));
            }
        }
    }
    if !missing.is_empty() {
        let ids = missing.join(", ");
        return Err(Error::NotStopped(format!(
            "there is no tunnel {ids}: ssm tunnels shows which there are"
        )));
    }
    if going_on > 0 {
        return Err(Error::NotStopped(format!("{going_on} of {} have not ended", wanted.len())));
    }
    if wanted.is_empty() {
        say("no tunnels");
    }
    Ok(ExitCode::SUCCESS)
}

/// Asks all of them at the same time; the answers are in the order of the peers.
async fn ask_all<T: Send + 'static, F>(peers: &[Peer], ask: impl Fn(Peer) -> F) -> Vec<Result<T, PeerError>>
where
    F: Future<Output = Result<T, PeerError>> + Send + 'static,
{
    let asked: Vec<_> = peers.iter().map(|peer| tokio::spawn(ask(peer.clone()))).collect();
    let mut answers = Vec::new();
    for answer in asked {
        answers.push(answer.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic())));
    }
    answers
}

fn lines(tunnels: &[(&Peer, Result<Tunnel, PeerError>)]) -> String {
    let line = |(peer, answer): &(&Peer, Result<Tunnel, PeerError>)| match answer {
        Ok(tunnel) => {
            format!("{}\n", Json(serde_json::to_string(tunnel).expect("a tunnel has only text for keys")))
        }
        Err(error) => format!("{}\n", Json(json!({ "id": peer.id, "error": error.to_string() }))),
    };
    tunnels.iter().map(line).collect()
}

/// Columns of the table; the last one has the forwards.
const COLUMNS: usize = 8;

fn table(tunnels: &[(&Peer, Result<Tunnel, PeerError>)], now: u64) -> String {
    let mut table = Table::new(["ID", "TARGET", "AGE", "SESSIONS", "OPEN", "SENT", "RECEIVED", "FORWARDS"]);
    for (peer, answer) in tunnels {
        match answer {
            Ok(tunnel) => tunnel_rows(tunnel, now).into_iter().for_each(|row| table.row(row)),
            Err(error) => {
                let mut row: [String; COLUMNS] = Default::default();
                (row[0], row[COLUMNS - 1]) = (peer.id.clone(), error.to_string());
                table.row(row);
            }
        }
    }
    table.text()
}

/// A row for each forward, the first with what they share.
fn tunnel_rows(tunnel: &Tunnel, now: u64) -> Vec<[String; COLUMNS]> {
    let mut rows: Vec<[String; COLUMNS]> = Vec::new();
    for forward in &tunnel.forwards {
        let mut row: [String; COLUMNS] = Default::default();
        let listen = forward.listen.join(" and ");
        row[COLUMNS - 1] = match forward.state {
            ForwardState::Ready => format!("{listen} -> {}", forward.destination),
            ForwardState::Starting => format!("{} (starting)", forward.destination),
            ForwardState::Ended => format!("{} (ended)", forward.destination),
        };
        rows.push(row);
    }
    if rows.is_empty() {
        rows.push(Default::default());
    }
    let first = &mut rows[0];
    first[0].clone_from(&tunnel.id);
    first[1].clone_from(&tunnel.target);
    first[2] = age(Duration::from_secs(now.saturating_sub(tunnel.since)));
    first[3] = tunnel.sessions.to_string();
    first[4] = format!("{} of {}", tunnel.open, tunnel.connections);
    first[5] = Bytes(tunnel.sent).to_string();
    first[6] = Bytes(tunnel.received).to_string();
    rows
}

/// A time for a person: its two largest units.
fn age(age: Duration) -> String {
    let seconds = age.as_secs();
    match (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60, seconds % 60) {
        (0, 0, 0, seconds) => format!("{seconds}s"),
        (0, 0, minutes, seconds) => format!("{minutes}m {seconds}s"),
        (0, hours, minutes, _) => format!("{hours}h {minutes}m"),
        (days, hours, _, _) => format!("{days}d {hours}h"),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use crate::registry::Forward;

    use super::*;

    fn tunnel() -> Tunnel {
        let forward = |listen: &[&str], destination: &str, state| Forward {
            listen: listen.iter().map(ToString::to_string).collect(),
            port: None,
            destination: destination.into(),
            state,
        };
        Tunnel {
            id: "4711".into(),
            name: None,
            target: "i-0123456789abcdef0".into(),
            since: 1000,
            forwards: vec![
                forward(&["127.0.0.1:5432", "[::1]:5432"], "db:5432", ForwardState::Ready),
                forward(&[], "web:80", ForwardState::Ended),
            ],
            sessions: 2,
            resumes: 1,
            open: 3,
            connections: 17,
            sent: 1536,
            received: 5 << 20,
            log: None,
        }
    }

    #[test]
    fn each_forward_has_a_row() {
        let rows = tunnel_rows(&tunnel(), 1000 + 3700);
        let shared = ["4711", "i-0123456789abcdef0", "1h 1m", "2", "3 of 17", "1.5 KiB", "5.0 MiB"];
        assert_eq!(rows[0][..COLUMNS - 1], shared);
        assert_eq!(rows[0][COLUMNS - 1], "127.0.0.1:5432 and [::1]:5432 -> db:5432");
        assert_eq!(rows[1][..COLUMNS - 1], [""; COLUMNS - 1]);
        assert_eq!(rows[1][COLUMNS - 1], "web:80 (ended)");
    }

    #[test]
    fn ages_have_two_units() {
        for (seconds, text) in [(0, "0s"), (59, "59s"), (61, "1m 1s"), (7384, "2h 3m"), (200_000, "2d 7h")] {
            assert_eq!(age(Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn a_tunnel_in_json_has_these_fields() {
        let json = serde_json::to_value(tunnel()).unwrap();
        let fields: BTreeSet<&str> = json.as_object().unwrap().keys().map(String::as_str).collect();
        let expected = [
            "id",
            "name",
            "target",
            "since",
            "forwards",
            "sessions",
            "resumes",
            "open",
            "connections",
            "sent",
            "received",
            "log",
        ];
        assert_eq!(fields, expected.into());
        assert_eq!(json["forwards"][0]["state"], "ready");
    }
}
