//! `ssm shell` in a terminal.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Signal, kill_process};

use crate::support::process::pid;
use crate::support::system::tree;
use crate::support::tmux::Tmux;
use crate::support::{Loopback, SSM, digest};

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

#[test]
fn a_long_paste_with_marks_arrives_whole() {
    let loopback = Loopback::start();
    let tmux = remote(&loopback);
    // As terminals paste for programs that ask for marks; lines of up to 4,095 bytes, which is what a terminal takes.
    let mut text = String::new();
    for line in 0.. {
        if text.len() > 200 * 1024 {
            break;
        }
        let word = ["paste ", "größer ", "日本 ", "~. ", "\"' "][line % 5];
        text += &format!("{line} {}\n", word.repeat(1 + line * 37 % (4000 / word.len())));
    }
    let longest = text.lines().map(str::len).max().unwrap();
    assert!((3000..4095).contains(&longest), "{longest}");
    let file = loopback.home().join("clipboard");
    fs::write(&file, &text).unwrap();
    // The program at the far side asks for marks, so tmux makes some, and takes them out again.
    tmux.line("stty -echo; printf '\\033[?2004hre''ady\\n'; sed 's/\\x1b\\[20[01]~//g' >pasted; printf '\\033[?2004l'; stty echo; echo do''ne");
    tmux.until_line("ready");
    let began = Instant::now();
    tmux.paste_marked(&file);
    tmux.key("Enter");
    tmux.key("C-d");
    tmux.until_line("done");
    let took = began.elapsed();
    assert_eq!(
        digest(&fs::read(loopback.home().join("pasted")).unwrap()),
        digest(format!("{text}\n").as_bytes())
    );
    assert!(took < Duration::from_secs(30), "{took:?}");
}

#[test]
fn a_stopped_session_gives_the_terminal_back_and_goes_on() {
    let loopback = Loopback::start();
    let tmux = local(&loopback);
    let before = modes(&tmux, loopback.home());
    tmux.line(&ssm_shell(&loopback));
    tmux.until("the far prompt", |screen| screen.contains("remote$"));
    tmux.line("vi -u NONE words");
    tmux.until("an empty file", |screen| tmux.alternate() && screen.contains("\n~\n"));
    tmux.text("ikept");
    tmux.key("Enter");
    tmux.key("Escape");
    tmux.until("the text", |screen| screen.starts_with("kept\n"));
    // In vi a tilde at the start of a line is one of its commands; what begins a line is what was typed last.
    tmux.key("Enter");
    tmux.text("~");
    tmux.key("C-z");
    tmux.until("the local shell", |screen| !tmux.alternate() && screen.contains("Stopped"));
    assert_eq!(modes(&tmux, loopback.home()), before);
    tmux.line("fg");
    tmux.until("the text again", |screen| tmux.alternate() && screen.starts_with("kept\n"));
    tmux.line(":wq");
    tmux.until("the prompt", |screen| !tmux.alternate() && screen.trim_end().ends_with("remote$"));
    assert_eq!(fs::read_to_string(loopback.home().join("words")).unwrap(), "kept\n\n");
    tmux.line("exit");
    tmux.until("the local prompt", |screen| screen.trim_end().ends_with("local$"));
    assert_eq!(modes(&tmux, loopback.home()), before);
}

#[test]
fn a_program_that_draws_all_the_time_is_shown_and_quits() {
    let loopback = Loopback::start();
    let tmux = remote(&loopback);
    tmux.line("top -d 0.2");
    tmux.until("the table", |screen| screen.contains("PID USER") && screen.contains("load average"));
    tmux.resize((72, 20));
    tmux.until("a table that fits", |screen| {
        screen.contains("PID USER") && screen.trim_end().lines().count() <= 20
    });
    tmux.text("q");
    tmux.until("the prompt", |screen| screen.trim_end().ends_with("remote$"));
    tmux.line("clear; stty size");
    tmux.until_line("20 72");
}

#[test]
fn bars_drawn_over_and_over_end_as_they_should_and_the_mouse_is_heard() {
    let loopback = Loopback::start();
    let tmux = remote(&loopback);
    // As htop draws: the other screen, no cursor, the mouse, colours, and each frame over the one before.
    let script = "printf '\\033[?1049h\\033[?25l\\033[?1000;1006h'\n\
        for frame in $(seq 1 300); do\n\
        printf '\\033[H'\n\
        for row in 1 2 3 4 5 6 7 8; do printf '\\033[3%dm%3d\\033[m [%-40.*s] %3d\\033[K\\r\\n' $((row % 8)) $row $(((frame * row) % 41)) '||||||||||||||||||||||||||||||||||||||||' $frame; done\n\
        done\n\
        stty raw -echo; printf 'click'; mouse=$(dd bs=1 count=9 2>/dev/null | tr -d '\\033'); stty sane\n\
        printf '\\033[?1000;1006l\\033[?25h\\033[?1049l'; echo heard \"$mouse\"\n";
    fs::write(loopback.home().join("bars"), script).unwrap();
    tmux.line("bash bars");
    let screen = tmux.until("the last frame", |screen| tmux.alternate() && screen.contains("click"));
    for row in 1..=8 {
        let bar = format!("{row:3} [{:<40}] 300", "|".repeat(300 * row % 41));
        assert!(screen.lines().any(|line| line.trim_end() == bar), "{bar}\n{screen}");
    }
    // What a terminal sends for a click at column 3, row 4.
    tmux.keys_as_bytes("\x1b[<0;3;4M");
    tmux.until_line("heard [<0;3;4M");
    assert!(!tmux.alternate());
}

#[test]
fn a_far_shell_that_is_killed_ends_it_and_leaves_the_terminal_as_it_was() {
    let loopback = Loopback::start();
    let tmux = local(&loopback);
    let before = modes(&tmux, loopback.home());
    tmux.line(&format!("{}; echo code=$?", ssm_shell(&loopback)));
    tmux.until("the far prompt", |screen| screen.contains("remote$"));
    tmux.line("printf '\\033[?1049h\\033[?25l\\033[?1000h'; kill -9 $$");
    tmux.until("the exit code", |screen| screen.contains("code=0"));
    assert!(!tmux.alternate(), "the other screen was left");
    assert_eq!(tmux.flag("mouse_any_flag"), "0");
    assert_eq!(tmux.flag("cursor_flag"), "1");
    assert_eq!(modes(&tmux, loopback.home()), before);
}

#[test]
fn a_hung_network_is_left_with_an_escape() {
    let loopback = Loopback::start();
    let tmux = local(&loopback);
    let before = modes(&tmux, loopback.home());
    tmux.line(&format!("{}; echo code=$?", ssm_shell(&loopback)));
    tmux.until("the far prompt", |screen| screen.contains("remote$"));
    tmux.line("less /etc/passwd");
    tmux.until("less", |_| tmux.alternate());
    // Not even a refusal comes from there any more.
    loopback.freeze();
    tmux.text("jjj");
    tmux.key("Enter");
    tmux.text("~.");
    tmux.until("the exit code", |screen| screen.contains("code=255"));
    assert!(!tmux.alternate(), "the other screen was left");
    assert_eq!(modes(&tmux, loopback.home()), before);
}

#[test]
fn a_closed_stderr_is_no_end() {
    let loopback = Loopback::start();
    let tmux = local(&loopback);
    let before = modes(&tmux, loopback.home());
    // An answer cannot be written.
    tmux.line(&format!("{} 2>&-; echo code=$?", ssm_shell(&loopback)));
    tmux.until("the far prompt", |screen| screen.contains("remote$"));
    tmux.key("Enter");
    tmux.text("~?");
    tmux.line("echo al''ive");
    tmux.until_line("alive");
    tmux.line("exit");
    tmux.until("the exit code", |screen| screen.contains("code=0"));
    assert_eq!(modes(&tmux, loopback.home()), before);
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
