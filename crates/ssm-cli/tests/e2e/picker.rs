//! The list to choose from, in a terminal.

use rustix::process::{Pid, Signal, kill_process};

use crate::support::SSM;
use crate::support::moto::Moto;
use crate::support::system::tree;
use crate::support::tmux::Tmux;

const SIZE: (u16, u16) = (90, 24);

/// Says how the command has ended, on a line that is no echo of what was typed.
const STATUS: &str = "; echo sta''tus=$?";

#[test]
fn one_of_several_machines_is_chosen_by_typing() {
    let moto = Moto::start();
    let ids = moto.run_instances("worker", 3);
    let tmux = asked(&moto);
    let screen = tmux.screen();
    assert!(ids.iter().all(|id| screen.contains(&format!("{id}  worker  running  "))), "{screen}");
    tmux.text(&ids[1][2..]);
    tmux.until("one machine", |screen| screen.contains(&ids[1]) && !screen.contains(&ids[0]));
    tmux.key("Enter");
    let screen = tmux.until("the choice", |screen| screen.contains("status="));
    assert!(screen.contains(&format!("ssm: going on with {}  worker", ids[1])), "{screen}");
    assert!(!screen.contains("> i-"), "the list has gone: {screen}");
    assert!(tmux.cursor());
}

#[test]
fn leaving_the_list_restores_the_terminal() {
    let moto = Moto::start();
    moto.run_instances("worker", 3);
    for (key, code) in [("C-c", "130"), ("Escape", "130")] {
        let tmux = asked(&moto);
        tmux.key(key);
        left(&tmux, code);
    }
    for (signal, code) in [(Signal::TERM, "143"), (Signal::INT, "130"), (Signal::QUIT, "131")] {
        let tmux = asked(&moto);
        let processes = tree(tmux.pane_pid());
        let ssm = processes.iter().find(|process| process.name == "ssm").unwrap();
        let ssm = Pid::from_raw(ssm.pid.try_into().unwrap()).unwrap();
        kill_process(ssm, signal).unwrap();
        left(&tmux, code);
    }
}

/// A terminal on which a command asks which of the machines is meant.
fn asked(moto: &Moto) -> Tmux {
    let tmux = Tmux::start(&moto.command(SSM), moto.home.path(), SIZE);
    tmux.line("stty -g > before");
    tmux.line(&format!("{SSM} shell tag:Name=worker{STATUS}"));
    tmux.until("the list", |screen| screen.contains("> i-"));
    assert!(!tmux.cursor());
    tmux
}

/// Waits for this exit code, and for a terminal that is as it was.
fn left(tmux: &Tmux, code: &str) {
    let screen = tmux.until("the end", |screen| screen.contains("status="));
    assert!(screen.contains(&format!("status={code}")), "{screen}");
    assert!(!screen.contains("> i-"), "the list has gone: {screen}");
    assert!(tmux.cursor());
    tmux.line("stty -g | cmp - before && echo sa''me");
    tmux.until_line("same");
}
