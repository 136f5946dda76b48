//! What was said and chosen as an entry of the configuration: the next time its name is enough.

use toml::Value;

use crate::args::DbArgs;
use crate::ask;
use crate::config::{Config, Selector};
use crate::error::Error;
use crate::output::say;

use super::database::{Database, Kind};

/// Adds the entry that `--save` names. Without the flag, who has chosen a database from the list and has no entry yet is asked for a
/// name.
pub(super) async fn run(
    args: &DbArgs,
    database: &Database,
    region: &str,
    config: &Config,
) -> Result<(), Error> {
    let name = match &args.save {
        Some(name) => name.clone(),
        None if is_first(args, config) => {
            let question = "a name to find this by from now on, with ssm db NAME (Enter for none):";
            match ask::line(question).await {
                Some(name) if !name.is_empty() => name,
                _ => return Ok(()),
            }
        }
        None => return Ok(()),
    };
    let path = config.add_database(&name, &keys(args, database, region))?;
    say(format_args!("[db.{name}] is in {} from now on", path.display()));
    Ok(())
}

/// Whether somebody sits there who does this for the first time, and could want to keep it.
fn is_first(args: &DbArgs, config: &Config) -> bool {
    let has_chosen = args.database.is_none() && !args.connection.first;
    has_chosen && !args.json && !args.detached && config.file.databases.is_empty() && ask::can_ask()
}

/// What leads to the same database in the same way, without what is usual anyway.
fn keys(args: &DbArgs, database: &Database, region: &str) -> Vec<(&'static str, Value)> {
    let selector = match database.kind {
        Kind::Cluster => Selector::Cluster,
        Kind::Instance => Selector::Instance,
        Kind::ReplicationGroup | Kind::CacheCluster | Kind::ServerlessCache => Selector::Cache,
    };
    let text = |value: &Option<String>| value.as_deref().map(Value::from);
    let keys = [
        (selector.key(), Some(database.id.as_str().into())),
        ("bastion", text(&args.bastion)),
        ("user", text(&args.user)),
        ("database", text(&args.schema)),
        ("secret", text(&args.secret)),
        ("iam", args.iam.then(|| true.into())),
        ("local-port", args.local_port.filter(|port| *port != 0).map(|port| i64::from(port).into())),
        ("profile", text(&args.connection.profile)),
        ("region", Some(region.into())),
    ];
    keys.into_iter().filter_map(|(key, value)| Some((key, value?))).collect()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::{Args, Command};

    #[test]
    fn an_entry_has_what_was_said_and_what_was_found() {
        let words = "ssm db ord --save orders --bastion tag:Role=jump --iam --user app --local-port 5433 --profile dev";
        let Command::Db(args) = Args::parse_from(words.split(' ')).command else { panic!("no database") };
        let database = Database::new("prod-orders", Kind::Cluster, "aurora-postgresql", "available");
        let lines: Vec<String> = keys(&args, &database, "eu-west-1")
            .iter()
            .map(|(key, value)| format!("{key} = {value}"))
            .collect();
        assert_eq!(
            lines,
            [
                "cluster = \"prod-orders\"",
                "bastion = \"tag:Role=jump\"",
                "user = \"app\"",
                "iam = true",
                "local-port = 5433",
                "profile = \"dev\"",
                "region = \"eu-west-1\"",
            ]
        );
    }
}
