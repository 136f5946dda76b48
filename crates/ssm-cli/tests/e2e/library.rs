//! The libraries with the programs of others.

use std::env;
use std::process::Command;

use crate::postgres::Postgres;
use crate::support::process::run;

#[test]
fn the_postgres_example_gets_what_the_server_has() {
    let server = Postgres::start();
    // Cargo builds examples beside the folder of the tests, when it builds all tests of their package.
    let tests = env::current_exe().unwrap();
    let program = tests.ancestors().nth(2).unwrap().join("examples/postgres");
    assert!(program.exists(), "{} is missing: run cargo xtask test", program.display());
    let said = run(Command::new(program).env("PGPORT", server.port.to_string()).env("PGUSER", "tester"));
    assert_eq!(said, "100000 of 100000 rows are right\nthe session was ended from here\n");
}
