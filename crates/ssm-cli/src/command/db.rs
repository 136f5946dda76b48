//! `ssm db`
//!
//! | module | what it does |
//! |---|---|
//! | `catalog` | asks RDS and ElastiCache what there is |
//! | `database` | a database as they have it |
//! | `find` | which one a name means |
//! | `bastion` | the machine on the way: found, waited for, replaced |
//! | `login` | user and password |
//! | `access` | how programs are told: connection string, variables |
//! | `profile` | the profile and the local port of a `[db.NAME]` |
//! | `save` | what was chosen as a `[db.NAME]` |

mod access;
mod api;
mod bastion;
mod catalog;
mod database;
mod find;
mod list;
mod login;
mod profile;
mod save;

use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::json;
use ssm_portfwd::{Destination, ForwardSpec, ListenAddr, LocalAddr};
use ssm_resolve::Target;
use ssm_session::{AwsControl, Secret};

use crate::args::{ConnectionArgs, DbArgs, DbCommand, DurationArg, EngineArg, ForwardArgs, IntervalArg};
use crate::background;
use crate::cache;
use crate::clipboard;
use crate::config::{Config, Database as Entry, Flags, Selector, Value};
use crate::control::Control;
use crate::error::Error;
use crate::lookup;
use crate::options::{self, Source};
use crate::output::{Json, print_aside, say, unix_time};
use crate::picker;
use crate::process::Signals;

use self::access::{Access, Password};
use self::bastion::{Bastions, Replace, Wanted};
use self::catalog::{Catalog, Found};
use self::database::{Database, Engine, Role};
use self::find::Meant;
use self::login::{Login, Wish};
use super::forward::{self, Around};

pub(crate) use self::bastion::Gate;

/// How long a session may be quiet: far below the 20 min after which the service takes it for idle.
const KEEP_ALIVE: Duration = Duration::from_secs(120);

/// How long a bastion is waited for, and one that takes the place of another.
const BASTION_WAIT: Duration = Duration::from_secs(180);
const BASTION_REPLACED: Duration = Duration::from_secs(300);

/// Runs the command.
pub(crate) async fn run(mut args: DbArgs, config: &Config) -> Result<ExitCode, Error> {
    if let Some(DbCommand::List(args)) = args.subcommand {
        return list::run(args, config).await;
    }
    if args.connection.attach {
        return Err(Error::Usage("--attach has a session, and ssm db looks for one".into()));
    }
    let mut signals = Signals::take().map_err(Error::local("cannot watch for signals"))?;
    if let Some(name) = &args.save {
        config.has_room_for(name)?;
    }
    let entry = args.database.as_ref().and_then(|name| config.file.databases.get(name));
    let DbArgs { connection, channel, .. } = &mut args;
    let flags = Flags::from(connection).channel(channel);
    config.fill_from(entry.map(|entry| &entry.settings), flags);
    if args.stays() && !args.detached {
        crate::sign_on::prepare(&args.connection).await;
        let limit = args.wait.flatten().map(|DurationArg(limit)| limit);
        return background::launch(limit, &mut signals).await;
    }
    let prepared = tokio::select! {
        prepared = prepare(&mut args, entry, config) => prepared?,
        _ = signals.next() => return Ok(ExitCode::SUCCESS),
    };
    let Prepared { gate, access, source } = prepared;
    let forward = forward_args(&args, &gate, &access);
    let bastion = forward.target.clone().unwrap_or_default();
    let ready = |addresses: &[LocalAddr]| Ok(tell(&args, &gate, &access, source.as_deref(), addresses));
    let sessions = async { Ok(Source::Api(Box::new(Control::Bastion(Arc::clone(&gate))))) };
    forward::carry(&forward, bastion, sessions, ready, &mut signals).await
}

/// Everything that is known before the forward is set up.
struct Prepared {
    gate: Arc<Gate>,
    access: Access,
    /// Where the password comes from.
    source: Option<String>,
}

async fn prepare(args: &mut DbArgs, entry: Option<&Entry>, config: &Config) -> Result<Prepared, Error> {
    fill(args, entry, config).await?;
    let bastion = bastion_target(args, config)?;
    let account = options::account(&args.connection).await?;
    let catalog = Catalog::new(&account);
    let found = catalog.all(args.engine.map(Engine::from)).await;
    remember(&found.databases, &args.connection);
    let database = meant(args, entry, &found).await?;
    let role = if args.reader { Role::Reader } else { Role::Writer };
    let endpoint = database.endpoint(role)?.clone();
    if !database.is_available() {
        say(format_args!("{} is {}", database.id, database.status));
    }
    let bastions = bastions(args, &account, &bastion).await?;
    let id = bastions.connected().await?;
    // As late as can be: a token of IAM is good for 15 minutes.
    let wish = Wish {
        user: args.user.clone(),
        secret: args.secret.clone(),
        iam: args.iam,
        needed: args.needs_password(),
        required: args.copy || args.print_password,
        first: args.connection.first,
    };
    let Login { user, password, schema, source } = login::find(&account, &database, &endpoint, &wish).await?;
    if args.copy
        && let Some(password) = &password
    {
        let copied = clipboard::copy(password.expose()).await;
        copied.map_err(|why| Error::Database(format!("the password was not copied: {why}")))?;
        say("the password is in the clipboard");
    }
    save::run(args, &database, account.region(), config).await?;
    let schema = args.schema.clone().or(schema).or_else(|| database.schema.clone());
    let (engine, tls) = (database.engine, database.tls);
    let access = Access { engine, endpoint, user, schema, password, tls, iam: args.iam };
    let gate = Gate { account, bastions, catalog, database, role, bastion: Mutex::new(id) };
    Ok(Prepared { gate: Arc::new(gate), access, source })
}

/// Keeps the ids for completing them on a command line.
fn remember(databases: &[Database], connection: &ConnectionArgs) {
    let ids =
        databases.iter().filter(|database| database.part_of.is_none()).map(|database| database.id.as_str());
    cache::keep_databases(ids, connection);
}

/// Takes from the entry of the configuration what the command line leaves open.
async fn fill(args: &mut DbArgs, entry: Option<&Entry>, config: &Config) -> Result<(), Error> {
    args.channel.keep_alive.get_or_insert(IntervalArg(Some(KEEP_ALIVE)));
    let Some(entry) = entry else { return Ok(()) };
    let profile = profile::choose(args, entry, config).await?;
    if args.local_port.is_none() {
        args.local_port = entry.port(profile.as_deref());
    }
    let text = |value: &Option<Value>| value.as_ref().map(|value| value.text.clone());
    let asked = args.secret.is_some() || args.iam;
    args.user = args.user.take().or_else(|| text(&entry.user));
    args.schema = args.schema.take().or_else(|| text(&entry.database));
    args.bastion = args.bastion.take().or_else(|| text(&entry.bastion));
    if !asked {
        (args.secret, args.iam) = (text(&entry.secret), entry.iam.is_some());
    }
    if let (None, Some(engine)) = (args.engine, &entry.engine) {
        args.engine = <EngineArg as clap::ValueEnum>::from_str(&engine.text, false).ok();
    }
    Ok(())
}

/// The bastion as somebody has written it; the target of an alias in its place.
fn bastion_target(args: &DbArgs, config: &Config) -> Result<Target, Error> {
    let configured = || config.file.bastion.as_ref().map(|value| value.text.clone());
    let text = args.bastion.clone().or_else(configured).unwrap_or_else(|| bastion::USUAL.into());
    let alias = config.alias(Some(&text));
    Ok(alias.map_or(text.as_str(), |alias| &alias.target.text).parse()?)
}

async fn bastions(args: &DbArgs, account: &AwsControl, target: &Target) -> Result<Bastions, Error> {
    let wanted = match Wanted::tagged(target) {
        Some(wanted) => wanted,
        None => Wanted::Named(lookup::session_target(Some(&target.to_string()), &args.connection).await?),
    };
    let mut bastions = Bastions::new(account, args.connection.endpoint_url.as_deref(), wanted);
    bastions.first = args.connection.first;
    bastions.replace = match (args.replace_bastion, args.yes) {
        (false, _) => Replace::No,
        (true, false) => Replace::Ask,
        (true, true) => Replace::Agreed,
    };
    let usual = if args.replace_bastion { BASTION_REPLACED } else { BASTION_WAIT };
    bastions.wait = args.bastion_wait.map_or(usual, |DurationArg(wait)| wait);
    Ok(bastions)
}

/// The database that is meant; the user chooses where there are several.
async fn meant(args: &DbArgs, entry: Option<&Entry>, found: &Found) -> Result<Database, Error> {
    let name = args.database.as_deref().unwrap_or_default();
    let selector: Option<(Selector, &str)> = entry
        .and_then(|entry| entry.selector.as_ref())
        .map(|(selector, value)| (*selector, value.text.as_str()));
    let wanted = find::Wanted {
        name: selector.map_or(name, |(_, text)| text),
        selector: selector.map(|(selector, _)| selector),
        engine: args.engine.map(Engine::from),
    };
    let lines = |databases: &[&Database]| databases.iter().map(ToString::to_string).collect::<Vec<String>>();
    let shown = if wanted.name.is_empty() { "that".into() } else { format!("'{}'", wanted.name) };
    match find::find(&found.databases, wanted) {
        Meant::One(database) => Ok(database.clone()),
        Meant::Several(several) if args.connection.first => Ok(several[0].clone()),
        Meant::Several(several) => {
            let said = format!(
                "{shown} means {} databases; give the id of one, or narrow them with --engine:",
                several.len()
            );
            Ok(several[picker::one_of("database", &lines(&several), said).await?].clone())
        }
        Meant::Unavailable(others) => {
            Err(Error::listed(format!("there is no database for {shown} that is available, only:"), others))
        }
        Meant::Nothing => Err(Error::listed(
            format!("there is no database for {shown}; ssm db list shows what there is"),
            &found.failures,
        )),
    }
}

/// The forward that leads to the database.
fn forward_args(args: &DbArgs, gate: &Gate, access: &Access) -> ForwardArgs {
    let destination = Destination::Host { host: access.endpoint.host.clone(), port: access.endpoint.port };
    let listen = ListenAddr::Loopback { port: args.local_port.unwrap_or(0) };
    let bastion = gate.bastion.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
    ForwardArgs {
        target: Some(bastion),
        specs: vec![ForwardSpec { listen, destination }],
        proxies: Vec::new(),
        proxy_idle: None,
        proxy_destinations: None,
        start_rate: None,
        stdio: None,
        lanes: None,
        exit_on_forward_failure: true,
        background: args.background,
        wait: args.wait,
        name: args.name.clone(),
        detached: args.detached,
        json: args.json,
        notify: args.notify,
        #[cfg(feature = "metrics")]
        metrics: None,
        command: args.command.clone(),
        connection: args.connection.clone(),
        channel: args.channel.clone(),
    }
}

/// Tells the user, or a program, that the database can be used. What a command finds in its environment.
fn tell(
    args: &DbArgs,
    gate: &Gate,
    access: &Access,
    source: Option<&str>,
    addresses: &[LocalAddr],
) -> Around {
    let port = addresses.iter().find_map(LocalAddr::tcp).map_or(0, |address| address.port());
    let password = if args.print_password { Password::Shown } else { Password::Hidden };
    let url = access.url(port, password);
    let database = &gate.database;
    if let Some(source) = source {
        say(format_args!("the password is from {source}"));
    }
    if database.sharded {
        say(
            "its keys are on several nodes, to which clients are sent on; this leads to the one that answers first",
        );
    }
    if args.json {
        let mut event = json!({
            "event": "database", "time_ms": u64::try_from(unix_time().as_millis()).unwrap_or(u64::MAX), "forward": 1,
            "id": database.id, "kind": database.kind.name(), "engine": database.engine_name,
            "host": access.endpoint.host, "port": port, "remote_port": access.endpoint.port, "user": access.user,
            "database": access.schema(), "password_from": source, "url": url.expose(),
        });
        if let Some(password) = access.password.as_ref().filter(|_| args.print_password) {
            event["password"] = password.expose().as_str().into();
        }
        write(&Secret::new(Json(event).to_string()));
    } else if args.command.is_empty() {
        write(&url);
    }
    Around { variables: access.variables(port, |name| std::env::var(name).ok()), words: access.words() }
}

fn write(line: &Secret<String>) {
    print_aside(Secret::new(format!("{}\n", line.expose())).expose());
}
