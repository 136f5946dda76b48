//! `cargo xtask`: checks, tests, benches and fuzzing of this workspace, one command each.
//!
//! | module | what it does |
//! |---|---|
//! | `check` | formatting, lints, docs, dependencies; compiles but runs nothing of ours |
//! | `conformance` | which test shows which item of the protocol's checklist, and that it can fail |
//! | `layers` | the allowed edges between our crates, and what may never be under them |
//! | `setup` | installs the programs that the tests talk to |
//! | `test` | setup, check, every test, a simulation, a short fuzz run |
//! | `sim` | whole sessions on a virtual clock |
//! | `faults` | the faults of the loopback against tunnels and shells |
//! | `soak` | the program under load while the gateway cuts and loses |
//! | `fuzz` | builds and runs the fuzz targets on the stable compiler |
//! | `mutants` | changes of the state machines that no test notices |
//! | `bench` | the benches by short name |
//! | `long` | commands and copies that take minutes |
//! | `man` | the manual pages |
//!
//! `process` runs commands, `steps` times them, `workspace` knows where things are.

mod bench;
mod check;
mod conformance;
#[path = "../../crates/ssm-cli/tests/common/example.rs"]
mod example;
mod faults;
mod fuzz;
mod layers;
mod long;
mod man;
mod mutants;
mod process;
mod setup;
mod sim;
mod soak;
mod steps;
mod test;
mod workspace;

use std::process::ExitCode;

use process::Failure;
use workspace::Workspace;

const USAGE: &str = "\
usage: cargo xtask <command>

  check                            format, lints, docs, dependency rules, licences
  conformance [--mutate [N | --item I]]
                                   the tests of each item of the protocol's checklist; with --mutate, see that they can fail
  setup                            install what the tests need (as root on Debian; elsewhere says what is missing)
  test [--no-fuzz]                 setup, check, all tests, a simulation, a short fuzz run
  fuzz [--seconds N | --minutes N] [TARGET [FILE...]]
                                   fuzz all targets or one; with files, replay just those
  sim [--seeds N] [--first S]      simulate whole sessions, with everything that can go wrong
  mutants [-p CRATE] [--shard K/N] [-f FILE] [--again]
                                   change the state machines and see whether a test notices; hours. With --again, only what
                                   the last run over the same has not caught
  bench [NAME] [-- ARGS...]        run the benches, all or one by name
  faults [--runs N]                the faults against tunnels and shells, with N seeds each (20)
  soak [--minutes N] [--ssm PROGRAM]
                                   lanes, connections, a shell and PostgreSQL while the gateway cuts and loses (30)
  long [--ssm PROGRAM]             copy 10,000 files and 1 GiB, pipe 100 MB; minutes
  man                              write the manual pages into target/man";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match dispatch(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("xtask: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(args: &[String]) -> Result<(), Failure> {
    let Some((command, args)) = args.split_first() else {
        return Err(Failure::new(USAGE));
    };
    let workspace = Workspace::locate()?;
    match (command.as_str(), args) {
        ("check", []) => check::run(&workspace),
        ("conformance", args) => conformance::run(&workspace, args),
        ("setup", []) => setup::run(&workspace).map(drop),
        ("test", []) => test::run(&workspace, test::Fuzzing::Short),
        ("test", [flag]) if flag == "--no-fuzz" => test::run(&workspace, test::Fuzzing::Skip),
        ("fuzz", args) => fuzz::run(&workspace, fuzz::Request::parse(args)?),
        ("sim", args) => sim::run(&workspace, &sim::Request::parse(args)?),
        ("faults", args) => faults::run(&workspace, args),
        ("soak", args) => soak::run(&workspace, args),
        ("mutants", args) => mutants::run(&workspace, &mutants::Request::parse(args)?),
        ("long", args) => long::run(&workspace, args),
        ("man", []) => man::run(&workspace),
        ("bench", args) => bench::run(&workspace, args),
        _ => Err(Failure::new(USAGE)),
    }
}
