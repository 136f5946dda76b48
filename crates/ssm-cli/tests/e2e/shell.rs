//! `ssm shell` in a terminal.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::process::{Signal, kill_process};

use crate::support::process::pid;
use crate::support::system::tree;
use crate::support::tmux::Tmux;
use crate::support::{Loopback, SSM};

const SIZE: (u16, u16) = (101, 33);

#[test]
fn the_far_terminal_has_the_size_of_this_one() {
    let loopback = Loopback::start();
    let tmux = local(&loopback);
    // Typed before there is a session: the first thing that runs over there sees the size.
    tmux.line(&ssm_shell(&loopback));
    tmux.line("stty size");
    tmux.until_line("33 101");
    for (cols, rows) in [(72, 20), (140, 50)] {
        tmux.resize((cols, rows));
        tmux.line(&format!("clear; until stty size | grep -x '{rows} {cols}'; do :; done"));
        tmux.until_line(&format!("{rows} {cols}"));
    }
}

#[test]
fn ctrl_c_interrupts_a_running_program() {
    let loopback = Loopback::start();
    let tmux = remote(&loopback);
    tmux.line("echo be''gun; sleep 1000; echo status=$?");
    tmux.until_line("begun");
    tmux.key("C-c");
    tmux.until("the end of sleep", |screen| screen.contains("^C"));
    tmux.line("echo status=$?");
    tmux.until_line("status=130");
}

#[test]
fn the_keys_of_job_control_reach_the_far_side() {
    let loopback = Loopback::start();
    let tmux = remote(&loopback);
    // One process speaks and waits: the key would be lost on a shell that is about to start another.
    tmux.line("sh -c \"echo be''gun; read line\"");
    tmux.until_line("begun");
    tmux.key("C-z");
    tmux.until("the stopped job", |screen| screen.contains("Stopped"));
    tmux.line("jobs; echo st''ill here");
    tmux.until_line("still here");
    tmux.line("clear; echo ag''ain; fg");
    tmux.until_line("again");
    tmux.key("C-\\");
    tmux.until("the quit", |screen| screen.contains("Quit"));
    tmux.line("echo status=$?");
    tmux.until_line("status=131");
}

#[test]
fn full_screen_programs_draw_and_quit() {
    let loopback = Loopback::start();
    let tmux = remote(&loopback);
    tmux.line("seq 1 500 >numbers; less numbers");
    tmux.until("the first page", |screen| screen.starts_with("1\n2\n3\n"));
    assert!(tmux.alternate());
    tmux.text("G");
    tmux.until("the last page", |screen| screen.contains("\n499\n500\n"));
    tmux.text("q");
    tmux.until("the prompt", |screen| !tmux.alternate() && screen.trim_end().ends_with("remote$"));

    tmux.line("vi -u NONE words");
    tmux.until("an empty file", |screen| {
        tmux.alternate() && screen.lines().filter(|line| *line == "~").count() > 20
    });
    tmux.text("ione line");
    tmux.key("Enter");
    tmux.text("and another");
    tmux.key("Escape");
    tmux.until("the text", |screen| screen.starts_with("one line\nand another\n~"));
    tmux.line(":wq");
    tmux.until("the prompt", |screen| !tmux.alternate() && screen.trim_end().ends_with("remote$"));
    assert_eq!(fs::read_to_string(loopback.home().join("words")).unwrap(), "one line\nand another\n");
}

#[test]
fn exit_ends_it_and_leaves_the_terminal_as_it_was() {
    let loopback = Loopback::start();
    let tmux = local(&loopback);
    let before = modes(&tmux, loopback.home());
    tmux.line(&format!("{}; echo code=$?", ssm_shell(&loopback)));
    tmux.until("the far prompt", |screen| screen.contains("remote$"));
    tmux.line("exit 3");
    // AWS's agent has no exit code for a shell.
    tmux.until("the exit code", |screen| screen.contains("code=0"));
    assert_eq!(modes(&tmux, loopback.home()), before);
}

#[test]
fn a_signal_ends_it_and_leaves_the_terminal_as_it_was() {
    let loopback = Loopback::start();
    for (signal, code) in [(Signal::TERM, 143), (Signal::HUP, 129)] {
        let tmux = local(&loopback);
        let before = modes(&tmux, loopback.home());
        tmux.line(&format!("{}; echo code=$?", ssm_shell(&loopback)));
        tmux.until("the far prompt", |screen| screen.contains("remote$"));
        send(&tmux, signal);
        tmux.until("the exit code", |screen| screen.contains(&format!("code={code}")));
        assert_eq!(modes(&tmux, loopback.home()), before);
    }
}

#[test]
fn a_service_that_dies_is_told_and_leaves_the_terminal_as_it_was() {
    let mut loopback = Loopback::start();
    let tmux = local(&loopback);
    let before = modes(&tmux, loopback.home());
    tmux.line(&format!("{}; echo code=$?", ssm_shell(&loopback)));
    tmux.until("the far prompt", |screen| screen.contains("remote$"));
    loopback.kill();
    tmux.until("a word about it", |screen| screen.contains("ssm: the connection was lost; connecting again"));
    // It goes on trying; a signal ends that.
    send(&tmux, Signal::TERM);
    tmux.until("the exit code", |screen| screen.contains("code=143"));
    assert_eq!(modes(&tmux, loopback.home()), before);
}

#[test]
fn a_paste_arrives_whole() {
    let loopback = Loopback::start();
    let tmux = remote(&loopback);
    let text: String = (0..150)
        .map(|line| format!("line {line:03} of what is pasted, with an ä and a \"quote\"\n"))
        .collect();
    let file = loopback.home().join("clipboard");
    fs::write(&file, &text).unwrap();
    tmux.line("echo re''ady; cat >pasted; echo do''ne");
    tmux.until_line("ready");
    tmux.paste(&file);
    tmux.until("the last line", |screen| screen.contains("line 149"));
    tmux.key("C-d");
    tmux.until_line("done");
    assert_eq!(fs::read_to_string(loopback.home().join("pasted")).unwrap(), text);
}

#[test]
fn much_output_arrives_whole_and_in_order() {
    let loopback = Loopback::start();
    let tmux = remote(&loopback);
    tmux.line("clear; tmux -V >/dev/null; seq 100000 120000; echo do''ne");
    tmux.until_line("done");
    let history = tmux.history();
    let numbers: Vec<u32> = history.lines().filter_map(|line| line.trim_end().parse().ok()).collect();
    assert!(numbers.iter().copied().eq(100_000..=120_000), "{} lines", numbers.len());
}

/// A terminal with a shell of this machine.
pub(crate) fn local(loopback: &Loopback) -> Tmux {
    let mut environment = loopback.command("sh");
    let programs = Path::new(SSM).parent().unwrap().to_str().unwrap();
    environment.env("PATH", format!("{programs}:{}", std::env::var("PATH").unwrap()));
    Tmux::start(&environment, loopback.home(), SIZE)
}

/// A terminal in which `ssm shell` is at its prompt.
fn remote(loopback: &Loopback) -> Tmux {
    let tmux = local(loopback);
    tmux.line(&ssm_shell(loopback));
    tmux.until("the far prompt", |screen| screen.contains("remote$"));
    tmux
}

fn ssm_shell(loopback: &Loopback) -> String {
    format!("ssm shell {}", loopback.target)
}

/// What `stty` says of the terminal, from the local shell.
pub(crate) fn modes(tmux: &Tmux, folder: &Path) -> String {
    static CALLS: AtomicUsize = AtomicUsize::new(0);
    let call = CALLS.fetch_add(1, Ordering::Relaxed);
    tmux.line(&format!("clear; stty -a >modes-{call}; echo no''ted-{call}"));
    tmux.until_line(&format!("noted-{call}"));
    fs::read_to_string(folder.join(format!("modes-{call}"))).unwrap()
}

/// Sends a signal to the `ssm` that runs in the terminal.
fn send(tmux: &Tmux, signal: Signal) {
    let ssm = tree(tmux.pane_pid()).into_iter().find(|process| process.name == "ssm").expect("ssm runs");
    kill_process(pid(ssm.pid), signal).unwrap();
}
