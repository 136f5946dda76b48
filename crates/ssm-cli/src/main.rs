//! The `ssm` command.

fn main() {}
