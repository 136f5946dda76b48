//! `ssm db`

use std::ffi::OsString;

use clap::{Args as ClapArgs, Subcommand, ValueEnum};

use super::{ChannelArgs, ConnectionArgs, DurationArg};

/// Connect to a database by name, through a bastion
///
/// Finds the database (RDS, Aurora, ElastiCache) and the bastion, forwards a local port, and writes a connection string without
/// the password to stdout once it can be used. Ctrl-C ends it, with exit code 0.
#[derive(Debug, ClapArgs)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct DbArgs {
    /// [db.NAME] of the configuration, the id of a cluster, instance or cache, the end of a cluster's or a part of another's
    ///
    /// Without it all databases are there to choose from.
    #[arg(value_name = "NAME")]
    pub(crate) database: Option<String>,
    /// Only databases of this kind
    #[arg(long, value_enum)]
    pub(crate) engine: Option<EngineArg>,
    /// Lead to the readers, in place of the writer
    #[arg(long)]
    pub(crate) reader: bool,
    /// Machine to go through: as for ssm shell, or a tag whose machine is looked for [default: tag:Name=*bastion*]
    #[arg(long, value_name = "TARGET")]
    pub(crate) bastion: Option<String>,
    /// Terminate a bastion that is not connected, once you agree, and go through the one that replaces it
    #[arg(long)]
    pub(crate) replace_bastion: bool,
    /// Agree to --replace-bastion beforehand
    #[arg(long, requires = "replace_bastion")]
    pub(crate) yes: bool,
    /// How long a bastion that is not connected is waited for [default: 3m; 5m for one that is replaced]
    #[arg(long, value_name = "TIME")]
    pub(crate) bastion_wait: Option<DurationArg>,
    /// Local port; 0 takes a free one [default: 0]
    #[arg(long, value_name = "PORT")]
    pub(crate) local_port: Option<u16>,
    /// Whom to log in as [default: the user of the secret, else the master user]
    #[arg(long)]
    pub(crate) user: Option<String>,
    /// Database to use, as the server names it [default: the one it was made with]
    #[arg(long = "database", value_name = "NAME")]
    pub(crate) schema: Option<String>,
    /// Secret with user and password: its name or ARN, or how its name begins [default: the one RDS keeps for the master user]
    #[arg(long, value_name = "ID|PREFIX", conflicts_with = "iam")]
    pub(crate) secret: Option<String>,
    /// Log in with a token of IAM in place of a password
    #[arg(long)]
    pub(crate) iam: bool,
    /// Put the password into the clipboard
    #[arg(long)]
    pub(crate) copy: bool,
    /// Write the password into the connection string
    #[arg(long, conflicts_with = "command")]
    pub(crate) print_password: bool,
    /// Write each event to stdout, as a line of JSON, in place of the connection string
    #[arg(long, conflicts_with = "command")]
    pub(crate) json: bool,
    /// Add what was chosen to the configuration as [db.NAME], so that `ssm db NAME` is enough from then on
    #[arg(long, value_name = "NAME")]
    pub(crate) save: Option<String>,
    /// Tell on the desktop, too, when the connection is lost for a while, is back, or is over
    #[arg(long)]
    pub(crate) notify: bool,
    /// Return when the database can be used, and leave the forward running in the background
    #[arg(long, conflicts_with = "command")]
    pub(crate) background: bool,
    /// As --background, and give up when it is not ready in time
    #[arg(long, value_name = "TIME", num_args = 0..=1, require_equals = true, conflicts_with = "command")]
    pub(crate) wait: Option<Option<DurationArg>>,
    /// The group and tunnel of `ssm up`
    #[arg(long, hide = true)]
    pub(crate) name: Option<String>,
    /// The process in the background
    #[arg(long, hide = true)]
    pub(crate) detached: bool,
    /// Run this once the database can be used, and end with it and its exit code
    ///
    /// It finds user, password and address in the variables of its kind: PGHOST, PGPASSWORD, MYSQL_PWD, REDISCLI_AUTH and so on.
    /// {host}, {port}, {user} and {database} in its arguments say the same, but for the password.
    #[arg(last = true, value_name = "COMMAND")]
    pub(crate) command: Vec<OsString>,
    #[command(flatten)]
    pub(crate) connection: ConnectionArgs,
    #[command(flatten)]
    pub(crate) channel: ChannelArgs,
    #[command(subcommand)]
    pub(crate) subcommand: Option<DbCommand>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum DbCommand {
    List(DbListArgs),
}

/// Show the databases of the account in this region
#[derive(Debug, ClapArgs)]
pub(crate) struct DbListArgs {
    /// Only databases of this kind
    #[arg(long, value_enum)]
    pub(crate) engine: Option<EngineArg>,
    /// Write each one to stdout, as a line of JSON
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) connection: ConnectionArgs,
}

/// Kinds of databases that there are connection strings for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum EngineArg {
    /// PostgreSQL, Aurora PostgreSQL
    Postgres,
    /// MySQL, MariaDB, Aurora MySQL
    Mysql,
    /// Redis, Valkey
    Redis,
    /// Memcached
    Memcached,
}

impl DbArgs {
    /// Whether the forward outlives the command.
    pub(crate) fn stays(&self) -> bool {
        self.background || self.wait.is_some()
    }

    /// Whether somebody wants to have the password.
    pub(crate) fn needs_password(&self) -> bool {
        self.copy || self.print_password || !self.command.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::{Args, Command};

    fn parse(line: &str) -> Result<DbArgs, clap::Error> {
        match Args::try_parse_from(line.split(' '))?.command {
            Command::Db(args) => Ok(*args),
            other => panic!("not read as a database: {other:?}"),
        }
    }

    #[test]
    fn a_database_may_have_a_command() {
        let args = parse("ssm db orders --iam --local-port 5433 -- psql -c select").unwrap();
        assert_eq!((args.database.as_deref(), args.local_port), (Some("orders"), Some(5433)));
        assert_eq!(args.command, ["psql", "-c", "select"]);
        assert!(args.needs_password() && !args.stays());
        assert!(parse("ssm db").unwrap().database.is_none());
    }

    #[test]
    fn databases_are_listed() {
        let args = parse("ssm db list --engine redis --json").unwrap();
        let Some(DbCommand::List(list)) = args.subcommand else { panic!("no list") };
        assert!(list.json && list.engine == Some(EngineArg::Redis));
    }

    #[test]
    fn what_makes_no_sense_together_is_refused() {
        for wrong in [
            "--iam --secret s",
            "--yes",
            "--json -- psql",
            "--print-password -- psql",
            "--background -- psql",
            "--engine oracle",
            "--local-port 65536",
        ] {
            assert!(parse(&format!("ssm db orders {wrong}")).is_err(), "{wrong}");
        }
    }
}
