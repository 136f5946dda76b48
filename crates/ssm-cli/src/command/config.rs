//! `ssm config`

use std::path::Path;
use std::process::ExitCode;

use serde_json::json;

use crate::args::{ConfigArgs, ConfigCommand, EndpointArg};
use crate::config::{Alias, Config, Database, Member, Origin, Setting, Settings, Value};
use crate::error::Error;
use crate::output::{Json, print};
use crate::table::Table;

/// Runs the command.
pub(crate) fn run(args: &ConfigArgs, flag: Option<&Path>) -> Result<ExitCode, Error> {
    let text = match args.command {
        Some(ConfigCommand::Path) => match Config::path(flag) {
            Some((path, _)) => format!("{}\n", path.display()),
            None => {
                return Err(Error::Usage(
                    "there is no home folder for a configuration: name one with --config".into(),
                ));
            }
        },
        None => {
            let config = Config::load(flag)?;
            let lines =
                lines(args, &config, |name| std::env::var(name).ok().filter(|value| !value.is_empty()));
            if args.json { as_json(&config, &lines) } else { as_table(&lines) }
        }
    };
    print(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// Something that holds, and who says so.
#[derive(Debug, PartialEq, Eq)]
struct Line {
    name: String,
    value: Option<String>,
    from: String,
}

impl Line {
    fn new(name: impl Into<String>, value: &str, from: &Origin) -> Self {
        Self { name: name.into(), value: Some(without_password(value)), from: from.to_string() }
    }
}

fn lines(args: &ConfigArgs, config: &Config, variable: impl Fn(&str) -> Option<String>) -> Vec<Line> {
    let alias = config.alias(args.target.as_deref());
    let database =
        args.target.as_ref().filter(|_| alias.is_none()).and_then(|name| config.file.databases.get(name));
    let mut lines: Vec<Line> = alias.map(of_alias).or_else(|| database.map(of_database)).unwrap_or_default();
    let own = alias.map(|alias| &alias.settings).or_else(|| database.map(|database| &database.settings));
    let settings = flags(args).or(&config.settings(own));
    let of_settings =
        Setting::ALL.map(|setting| (setting, of_setting(setting, settings.find(setting), &variable)));
    let said =
        of_settings.into_iter().filter(|(setting, line)| line.value.is_some() || !setting.is_of_service());
    lines.extend(said.map(|(_, line)| line));
    if args.target.is_none() {
        let aliases = config.file.aliases.iter();
        lines.extend(aliases.map(|(name, alias)| {
            Line::new(format!("alias.{name}"), &alias.target.text, &alias.target.origin)
        }));
        lines.extend(
            config.file.bastion.iter().map(|bastion| Line::new("bastion", &bastion.text, &bastion.origin)),
        );
        let file = config.path.as_ref().map(|path| path.display().to_string()).unwrap_or_default();
        lines.extend(config.file.databases.iter().map(|(name, database)| Line {
            name: format!("db.{name}"),
            value: Some(match &database.selector {
                Some((selector, Value { text, .. })) => format!("{} {text}", selector.key()),
                None => name.clone(),
            }),
            from: file.clone(),
        }));
        lines.extend(config.file.groups.iter().map(|(name, members)| Line {
            name: format!("group.{name}"),
            value: Some(members.iter().map(Member::shown).collect::<Vec<_>>().join(", ")),
            from: file.clone(),
        }));
    }
    lines
}

fn of_alias(alias: &Alias) -> Vec<Line> {
    let single = [
        ("target", Some(&alias.target)),
        ("user", alias.user.as_ref()),
        ("document", alias.document.as_ref()),
    ];
    let several = [("forwards", &alias.forwards), ("proxies", &alias.proxies)];
    let single = single.into_iter().filter_map(|(name, value)| Some((name, value?)));
    let several =
        several.into_iter().flat_map(|(name, values)| values.iter().map(move |value| (name, value)));
    single.chain(several).map(|(name, Value { text, origin })| Line::new(name, text, origin)).collect()
}

fn of_database(database: &Database) -> Vec<Line> {
    let values = [
        database.selector.as_ref().map(|(selector, value)| (selector.key(), value)),
        database.engine.as_ref().map(|value| ("engine", value)),
        database.bastion.as_ref().map(|value| ("bastion", value)),
        database.user.as_ref().map(|value| ("user", value)),
        database.database.as_ref().map(|value| ("database", value)),
        database.secret.as_ref().map(|value| ("secret", value)),
        database.iam.as_ref().map(|value| ("iam", value)),
        database.profile_filter.as_ref().map(|value| ("profile-filter", value)),
        database.local_port.as_ref().map(|value| ("local-port", value)),
    ];
    let values = values.into_iter().flatten();
    let lines = values.map(|(name, Value { text, origin })| Line::new(name, text, origin));
    let ports = database
        .ports
        .iter()
        .map(|(suffix, Value { text, origin })| Line::new(format!("ports.{suffix}"), text, origin));
    lines.chain(ports).collect()
}

fn of_setting(setting: Setting, value: Option<&Value>, variable: impl Fn(&str) -> Option<String>) -> Line {
    let name = setting.name();
    if let Some(Value { text, origin }) = value {
        return Line::new(name, text, origin);
    }
    for aws in setting.aws_variables() {
        if let Some(text) = variable(aws) {
            return Line::new(name, &text, &Origin::Variable(aws));
        }
    }
    let from = match setting {
        _ if setting.default().is_some() => "default",
        Setting::Proxy | Setting::NoProxy | Setting::CaBundle => "default",
        _ => "AWS configuration",
    };
    Line { name: name.into(), value: setting.default().map(Into::into), from: from.into() }
}

/// What the flags say.
fn flags(args: &ConfigArgs) -> Settings {
    let connection = &args.connection;
    let given = [
        (Setting::Profile, connection.profile.clone()),
        (Setting::Region, connection.region.clone()),
        (Setting::EndpointUrl, connection.endpoint_url.clone()),
        (Setting::SsmmessagesEndpointUrl, connection.ssmmessages_endpoint_url.clone()),
        (Setting::Fips, connection.fips.map(|fips| fips.to_string())),
        (Setting::DualStack, connection.dual_stack.map(|dual_stack| dual_stack.to_string())),
        (Setting::Proxy, connection.proxy.clone()),
        (Setting::NoProxy, connection.no_proxy.clone()),
        (Setting::CaBundle, connection.ca_bundle.as_ref().map(|path| path.display().to_string())),
        (Setting::Lanes, args.lanes.map(|lanes| lanes.to_string())),
        (Setting::PayloadSize, args.channel.payload_size.map(|size| size.to_string())),
        (Setting::Pacing, args.channel.pacing.map(|pacing| pacing.to_string())),
        (Setting::KeepAlive, args.channel.keep_alive.map(|interval| interval.to_string())),
        (Setting::Reconnect, args.channel.reconnect.map(|reconnect| reconnect.to_string())),
    ];
    let endpoints = connection.endpoints.iter();
    let endpoints =
        endpoints.map(|EndpointArg { service, url }| (Setting::Endpoint(*service), Some(url.clone())));
    given
        .into_iter()
        .chain(endpoints)
        .filter_map(|(setting, text)| Some((setting, Value { text: text?, origin: Origin::Flag(setting) })))
        .collect()
}

/// A URL without what is in front of its host: it may be a password.
fn without_password(text: &str) -> String {
    match text.split_once("://").and_then(|(scheme, rest)| Some((scheme, rest.rsplit_once('@')?.1))) {
        Some((scheme, host)) => format!("{scheme}://***@{host}"),
        None => text.to_owned(),
    }
}

fn as_json(config: &Config, lines: &[Line]) -> String {
    let lines: Vec<_> = lines
        .iter()
        .map(|line| json!({ "key": line.name, "value": line.value, "from": line.from }))
        .collect();
    let path = config.path.as_ref().map(|path| path.to_string_lossy());
    format!("{}\n", Json(json!({ "path": path, "settings": lines })))
}

fn as_table(lines: &[Line]) -> String {
    let mut table = Table::headless();
    for line in lines {
        table.row([&line.name, line.value.as_deref().unwrap_or("-"), &line.from]);
    }
    table.text()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_in_a_url_is_not_shown() {
        assert_eq!(without_password("https://me:secret@h:1/x"), "https://***@h:1/x");
        assert_eq!(without_password("https://a@b:secret@h"), "https://***@h");
        assert_eq!(without_password("https://h/x"), "https://h/x");
        assert_eq!(without_password("me@corp"), "me@corp");
    }

    #[test]
    fn what_nobody_here_says_is_left_to_aws() {
        let line = |setting, variables: &[(&str, &str)]| {
            let read = |name: &str| Some(variables.iter().find(|(found, _)| *found == name)?.1.to_owned());
            let line = of_setting(setting, None, read);
            (line.value, line.from)
        };
        assert_eq!(line(Setting::Region, &[]), (None, "AWS configuration".into()));
        let both = [("AWS_DEFAULT_REGION", "b"), ("AWS_REGION", "a")];
        assert_eq!(line(Setting::Region, &both), (Some("a".into()), "AWS_REGION".into()));
        assert_eq!(line(Setting::Lanes, &both), (Some("1".into()), "default".into()));
    }
}
