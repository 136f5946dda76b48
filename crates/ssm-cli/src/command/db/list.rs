//! `ssm db list`

use std::process::ExitCode;

use serde_json::json;

use crate::args::DbListArgs;
use crate::config::Config;
use crate::error::Error;
use crate::options;
use crate::output::{Json, complain, print, say};
use crate::table::Table;

use super::catalog::Catalog;
use super::database::{Database, Engine};

/// Runs the command.
pub(super) async fn run(mut args: DbListArgs, config: &Config) -> Result<ExitCode, Error> {
    config.fill_from(None, &mut args.connection);
    let account = options::account(&args.connection).await?;
    let engine = args.engine.map(Engine::from);
    let mut found = Catalog::new(&account).all(engine).await;
    if found.databases.is_empty()
        && let Some(failure) = found.failures.pop()
    {
        return Err(failure);
    }
    super::remember(&found.databases, &args.connection);
    // The others are worth to be shown.
    found.failures.iter().for_each(complain);
    let wanted = |database: &&Database| engine.is_none_or(|engine| database.engine == engine);
    let databases: Vec<&Database> = found.databases.iter().filter(wanted).collect();
    if databases.is_empty() {
        say(format_args!("no databases in {}", account.region()));
    }
    let text = if args.json { as_json(&databases) } else { as_table(&databases) };
    print(&text)?;
    Ok(ExitCode::SUCCESS)
}

fn as_json(databases: &[&Database]) -> String {
    let lines = databases.iter().map(|database| {
        let endpoint = |endpoint: &Option<super::database::Endpoint>| {
            endpoint.as_ref().map(|endpoint| json!({ "host": endpoint.host, "port": endpoint.port }))
        };
        let line = json!({
            "id": database.id, "kind": database.kind.name(), "engine": database.engine_name, "status": database.status,
            "writer": endpoint(&database.writer), "reader": endpoint(&database.reader), "part_of": database.part_of,
            "user": database.user, "database": database.schema, "secret": database.secret, "iam": database.takes_iam,
        });
        format!("{}\n", Json(line))
    });
    lines.collect()
}

fn as_table(databases: &[&Database]) -> String {
    let mut table = Table::new(["ID", "KIND", "ENGINE", "STATUS", "ENDPOINT"]);
    for database in databases {
        let endpoint = database.writer.as_ref().map(ToString::to_string).unwrap_or_default();
        let kind = database.kind.name();
        table.row([&database.id, kind, &database.engine_name, &database.status, &endpoint]);
    }
    table.text()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::db::database::Kind;

    #[test]
    fn a_table_has_a_line_for_each_and_cannot_paint_the_terminal() {
        let mut one = Database::new("orders", Kind::Cluster, "aurora-postgresql", "available");
        one.writer = one.endpoint_at(Some("h.example"), None);
        let two = Database::new("cache\x1b[2J", Kind::Instance, "mysql", "creating");
        let table = as_table(&[&one, &two]);
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(lines.len(), 3, "{table}");
        assert!(
            lines[1].starts_with("orders ") && lines[1].ends_with("available  h.example:5432"),
            "{table}"
        );
        assert!(lines[2].starts_with("cache\\u{1b}[2J  instance  mysql"), "{table}");
        let json: serde_json::Value = serde_json::from_str(as_json(&[&one]).trim()).unwrap();
        assert_eq!((&json["writer"]["port"], &json["reader"]), (&json!(5432), &serde_json::Value::Null));
    }
}
