//! The file once it is checked: every value can be used, every name leads somewhere.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::ops::Range;
use std::path::Path;
use std::str::FromStr;

use ssm_portfwd::{ForwardSpec, ListenAddr};
use ssm_resolve::Target;
use toml::Spanned;

use super::database::{self, Database, Selector};
use super::document::{self, Defaults, Document, Entry, Machine, Text};
use super::mistake::{Mistake, line_of, meant};
use super::setting::{Origin, Setting, Settings, Value, printable};
use crate::args::Service;

/// Longest name of an alias or a group.
const NAME_MAX: usize = 64;

/// What a configuration says.
#[derive(Debug, Default)]
pub(crate) struct File {
    pub(crate) defaults: Settings,
    /// The bastion of databases that have none of their own: a [`Target`].
    pub(crate) bastion: Option<Value>,
    pub(crate) databases: BTreeMap<String, Database>,
    pub(crate) aliases: BTreeMap<String, Alias>,
    pub(crate) groups: BTreeMap<String, Vec<Member>>,
}

/// A machine and how it is used.
#[derive(Debug)]
pub(crate) struct Alias {
    pub(crate) target: Value,
    pub(crate) user: Option<Value>,
    pub(crate) document: Option<Value>,
    /// Each a [`ForwardSpec`].
    pub(crate) forwards: Vec<Value>,
    /// Each a [`ListenAddr`].
    pub(crate) proxies: Vec<Value>,
    pub(crate) settings: Settings,
}

/// A tunnel of a group.
#[derive(Debug)]
pub(crate) enum Member {
    /// The forwards of the alias of this name.
    Alias(String),
    /// The database of this name.
    Database(String),
    /// Those that stand here.
    Own(Box<Alias>),
}

impl Member {
    /// The alias or database, or the target where there is none.
    pub(crate) fn shown(&self) -> &str {
        match self {
            Self::Alias(name) | Self::Database(name) => name,
            Self::Own(own) => &own.target.text,
        }
    }
}

impl File {
    /// Reads and checks a text. `path` is for what is said of it.
    ///
    /// # Errors
    ///
    /// Says the first thing that is wrong.
    pub(super) fn parse(path: &Path, text: &str) -> Result<Self, Mistake> {
        let document: Document = toml::from_str(text).map_err(|error| Mistake::parse(path, text, &error))?;
        let reader = Reader { path, text };
        let mut defaults = document.defaults;
        let bastion = defaults.bastion.take();
        let bastion = bastion.map(|bastion| reader.value(bastion, parses::<Target>)).transpose()?;
        let mut file = Self { defaults: reader.defaults(defaults)?, bastion, ..Self::default() };
        for (name, machine) in document.alias {
            reader.name(&name)?;
            let alias = reader.alias(machine, &name.span())?;
            file.aliases.insert(name.into_inner(), alias);
        }
        for (name, database) in document.db {
            reader.name(&name)?;
            let database = reader.database(database)?;
            file.databases.insert(name.into_inner(), database);
        }
        for (name, group) in document.group {
            reader.name(&name)?;
            let members: Result<_, _> =
                group.tunnels.into_iter().map(|entry| reader.member(entry, &file)).collect();
            file.groups.insert(name.into_inner(), members?);
        }
        Ok(file)
    }
}

/// What everything that is read needs.
struct Reader<'a> {
    path: &'a Path,
    text: &'a str,
}

type Given = Option<Spanned<Text>>;

/// The settings in `[defaults]`, in an alias or in a database: the same fields of three types.
macro_rules! settings_of {
    ($from:ident) => {
        [
            (Setting::Profile, $from.profile),
            (Setting::Region, $from.region),
            (Setting::EndpointUrl, $from.endpoint_url),
            (Setting::SsmmessagesEndpointUrl, $from.ssmmessages_endpoint_url),
            (Setting::Fips, $from.fips),
            (Setting::DualStack, $from.dual_stack),
            (Setting::Proxy, $from.proxy),
            (Setting::NoProxy, $from.no_proxy),
            (Setting::CaBundle, $from.ca_bundle),
            (Setting::Lanes, $from.lanes),
            (Setting::PayloadSize, $from.payload_size),
            (Setting::Pacing, $from.pacing),
            (Setting::KeepAlive, $from.keep_alive),
            (Setting::Reconnect, $from.reconnect),
            (Setting::Endpoint(Service::Ec2), $from.endpoints.ec2),
            (Setting::Endpoint(Service::Ec2InstanceConnect), $from.endpoints.ec2_instance_connect),
            (Setting::Endpoint(Service::Ecs), $from.endpoints.ecs),
            (Setting::Endpoint(Service::Elasticache), $from.endpoints.elasticache),
            (Setting::Endpoint(Service::Kms), $from.endpoints.kms),
            (Setting::Endpoint(Service::Rds), $from.endpoints.rds),
            (Setting::Endpoint(Service::SecretsManager), $from.endpoints.secrets_manager),
            (Setting::Endpoint(Service::Sso), $from.endpoints.sso),
            (Setting::Endpoint(Service::SsoOidc), $from.endpoints.sso_oidc),
            (Setting::Endpoint(Service::Sts), $from.endpoints.sts),
        ]
    };
}

impl Reader<'_> {
    fn defaults(&self, from: Defaults) -> Result<Settings, Mistake> {
        self.settings(settings_of!(from))
    }

    /// `place` is where it is named, for the want of a target.
    fn alias(&self, from: Machine, place: &Range<usize>) -> Result<Alias, Mistake> {
        let Some(target) = from.target else {
            return Err(self.mistake(place, "it has no target".into()));
        };
        let settings = self.settings(settings_of!(from))?;
        Ok(Alias {
            target: self.value(target, parses::<Target>)?,
            user: from.user.map(|user| self.value(user, printable)).transpose()?,
            document: from.document.map(|document| self.value(document, printable)).transpose()?,
            forwards: self.values(from.forwards, parses::<ForwardSpec>)?,
            proxies: self.values(from.proxies, parses::<ListenAddr>)?,
            settings,
        })
    }

    fn database(&self, from: document::Database) -> Result<Database, Mistake> {
        let selectors = [
            (Selector::Cluster, from.cluster),
            (Selector::Instance, from.instance),
            (Selector::Cache, from.cache),
        ];
        let mut selector: Option<(Selector, Value)> = None;
        for (kind, text) in selectors {
            let Some(text) = text else { continue };
            let place = text.span();
            if let Some((other, _)) = &selector {
                let what = format!("there is {} already, and one of them is enough", other.key());
                return Err(self.mistake(&place, what));
            }
            selector = Some((kind, self.value(text, printable)?));
        }
        let mut ports = Vec::new();
        for (suffix, port) in from.ports {
            if suffix.get_ref().is_empty() {
                return Err(self
                    .mistake(&suffix.span(), "the end of a profile's name has a character at least".into()));
            }
            ports.push((suffix.into_inner(), self.value(port, parses::<u16>)?));
        }
        let settings = self.settings(settings_of!(from))?;
        let value = |text: Given, check| text.map(|text| self.value(text, check)).transpose();
        let iam = from.iam.filter(|iam| *iam.get_ref());
        if let (Some(_), Some(secret)) = (&iam, &from.secret) {
            return Err(self.mistake(
                &secret.span(),
                "a token of IAM takes the place of a secret: have one of them".into(),
            ));
        }
        Ok(Database {
            selector,
            engine: value(from.engine, database::engine)?,
            bastion: value(from.bastion, parses::<Target>)?,
            user: value(from.user, printable)?,
            database: value(from.database, printable)?,
            secret: value(from.secret, printable)?,
            iam: iam.map(|iam| Value { text: "true".into(), origin: self.origin(&iam.span()) }),
            local_port: value(from.local_port, parses::<u16>)?,
            ports,
            profile_filter: value(from.profile_filter, printable)?,
            settings,
        })
    }

    fn member(&self, entry: Spanned<Entry>, file: &File) -> Result<Member, Mistake> {
        let (aliases, databases) = (&file.aliases, &file.databases);
        let place = entry.span();
        let wrong = match entry.into_inner() {
            Entry::Machine(machine) => {
                let own = self.alias(*machine, &place)?;
                if leads_somewhere(&own) {
                    return Ok(Member::Own(Box::new(own)));
                }
                "it has neither forwards nor proxies".into()
            }
            Entry::Name(name) => match aliases.get(&name) {
                Some(alias) if leads_somewhere(alias) => return Ok(Member::Alias(name)),
                _ if databases.contains_key(&name) => return Ok(Member::Database(name)),
                Some(_) => format!("the alias {name} has neither forwards nor proxies"),
                None => match meant(&name, aliases.keys().chain(databases.keys()).map(String::as_str)) {
                    Some(word) => format!("there is no alias {name}; did you mean {word}?"),
                    None => format!("there is no alias {name}; it takes an [alias.{name}]"),
                },
            },
        };
        Err(self.mistake(&place, wrong))
    }

    /// A name is safe on a command line, in a file name and in a script of a shell, and is no target of another form.
    fn name(&self, name: &Spanned<String>) -> Result<(), Mistake> {
        let text = name.get_ref();
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        let wrong = if text.is_empty() || text.len() > NAME_MAX {
            format!("a name has 1 to {NAME_MAX} characters")
        } else if !text.bytes().all(plain) || !text.starts_with(|first: char| first.is_ascii_alphanumeric()) {
            "a name has only letters from a to z, digits, '-', '_' and '.', and begins with a letter or a digit".into()
        } else if !matches!(text.parse(), Ok(Target::Name(_))) {
            "it reads as an instance id or an address, which needs no other name".into()
        } else {
            return Ok(());
        };
        Err(self.mistake(&name.span(), wrong))
    }

    fn settings(&self, given: [(Setting, Given); Setting::ALL.len()]) -> Result<Settings, Mistake> {
        let mut settings = Settings::default();
        for (setting, text) in given {
            if let Some(text) = text {
                let place = text.span();
                let added = settings.add(setting, text.into_inner().0, self.origin(&place));
                added.map_err(|why| self.mistake(&place, why))?;
            }
        }
        Ok(settings)
    }

    fn values(
        &self,
        texts: Vec<Spanned<Text>>,
        check: fn(&str) -> Result<(), String>,
    ) -> Result<Vec<Value>, Mistake> {
        texts.into_iter().map(|text| self.value(text, check)).collect()
    }

    fn value(&self, text: Spanned<Text>, check: fn(&str) -> Result<(), String>) -> Result<Value, Mistake> {
        let place = text.span();
        let text = text.into_inner().0;
        match check(&text) {
            Ok(()) => Ok(Value { text, origin: self.origin(&place) }),
            Err(why) => Err(self.mistake(&place, why)),
        }
    }

    fn origin(&self, place: &Range<usize>) -> Origin {
        Origin::File { path: self.path.into(), line: line_of(self.text, place.start) }
    }

    fn mistake(&self, place: &Range<usize>, what: String) -> Mistake {
        Mistake::at(self.path, self.text, place, what)
    }
}

fn leads_somewhere(alias: &Alias) -> bool {
    !alias.forwards.is_empty() || !alias.proxies.is_empty()
}

fn parses<T: FromStr<Err: Display>>(text: &str) -> Result<(), String> {
    text.parse::<T>().map(drop).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<File, String> {
        File::parse(Path::new("/c"), text).map_err(|mistake| mistake.to_string())
    }

    #[test]
    fn everything_that_can_be_written_is_read() {
        let text = r#"
            [defaults]
            profile = "corp"
            lanes = 4
            pacing = "off"
            fips = true
            ca-bundle = "/etc/corp.pem"
            proxy = "socks5h://127.0.0.1:1080"
            endpoints = { sts = "https://sts.corp.example", ec2-instance-connect = "https://h" }

            [alias.db]
            target = "i-0123456789abcdef0"
            user = "ec2-user"
            document = "Shell-As-Me"
            region = "eu-west-1"
            endpoint-url = "http://127.0.0.1:4566"
            payload-size = 8192
            forwards = ["5432:db.internal:5432", 8080]
            proxies = [1080]

            [alias."web.1"]
            target = "tag:role=web"

            [db.orders]
            cluster = "orders"
            ports = { dev = 5433, dev-eu = "5434" }

            [group.dev]
            tunnels = ["db", "orders", { target = "db", forwards = ["/tmp/s:80"], profile = "other" }]
        "#;
        let file = parse(text).unwrap();
        let lanes = file.defaults.find(Setting::Lanes).unwrap();
        assert_eq!((lanes.parse::<u16>(), lanes.origin.to_string()), (4, "/c:4".into()));
        let db = &file.aliases["db"];
        assert_eq!(
            (db.target.text.as_str(), db.forwards.len(), db.proxies.len()),
            ("i-0123456789abcdef0", 2, 1)
        );
        assert_eq!(db.settings.find(Setting::Region).unwrap().origin.to_string(), "/c:15");
        let sts = file.defaults.find(Setting::Endpoint(Service::Sts)).unwrap();
        assert_eq!(sts.text, "https://sts.corp.example");
        assert!(file.defaults.find(Setting::Fips).unwrap().parse::<bool>());
        assert!(matches!(&file.groups["dev"][0], Member::Alias(name) if name == "db"));
        assert!(matches!(&file.groups["dev"][1], Member::Database(name) if name == "orders"));
        assert!(matches!(&file.groups["dev"][2], Member::Own(own) if own.target.text == "db"));
    }

    #[test]
    fn nothing_is_a_configuration() {
        let file = parse("# nothing\n").unwrap();
        assert!(file.aliases.is_empty() && file.groups.is_empty() && file.defaults == Settings::default());
    }

    #[test]
    fn a_mistake_has_line_key_and_advice() {
        for (text, told) in [
            (
                "\n[defaults]\nprofil = 'x'",
                "/c:3: defaults.profil: there is no key profil; did you mean profile?",
            ),
            (
                "[defaults.endpoints]\nstss = 'https://h'",
                "/c:2: defaults.endpoints.stss: there is no key stss; did you mean sts?",
            ),
            ("[defaults]\nfips = 'yes'", "/c:2: defaults.fips: it has to be true or false"),
            ("[defaults]\nproxy = 'http://me:x@h'", "/c:2: defaults.proxy: a proxy with a password"),
            ("[aliases.db]", "/c:1: aliases.db: there is no key aliases; did you mean alias?"),
            ("[defaults]\nlanes = 0", "/c:2: defaults.lanes: it has to be a number from 1 to 64"),
            (
                "[defaults]\nlanes = [1]",
                "/c:2: defaults.lanes: invalid type: sequence, expected a text or a number",
            ),
            ("[defaults]\nlanes = 1\nlanes = 2", "/c:3: duplicate key"),
            ("[alias.db]\nforwards = [80]", "/c:1: alias.db: it has no target"),
            ("[alias.db]\ntarget = 'i-1'", "/c:2: alias.db.target: 'i-1' is not an instance id"),
            (
                "[alias.db]\ntarget = 't'\nforwards = [80,\n'x']",
                "/c:4: alias.db.forwards[1]: x is no forward",
            ),
            ("[alias.db]\ntarget = 't'\nproxies = ['a:b:c']", "/c:3: alias.db.proxies[0]: "),
            ("[alias.db]\ntarget = 't'\ndocument = ''", "/c:3: alias.db.document: it has to be 1 to 400"),
            (
                "[alias.db]\ntarget = 't'\n[group.g]\ntunnels = ['db']",
                "/c:4: group.g.tunnels[0]: the alias db has neither",
            ),
            (
                "[group.g]\ntunnels = ['db']",
                "/c:2: group.g.tunnels[0]: there is no alias db; it takes an [alias.db]",
            ),
            ("[group.g]\ntunnels = [7]", "/c:2: group.g.tunnels[0]: invalid type: integer"),
            ("[group.g]\ntunnels = [{ target = 't' }]", "/c:2: group.g.tunnels[0]: it has neither forwards"),
            ("[group.g]\ntunnels = [{ target = 't', forward = [] }]", "did you mean forwards?"),
            ("[db.o]\nclustr = 'x'", "/c:2: db.o.clustr: there is no key clustr; did you mean cluster?"),
            ("[db.o]\ncluster = 'x'\ninstance = 'y'", "/c:3: db.o.instance: there is cluster already"),
            ("[db.o]\nengine = 'oracle'", "/c:2: db.o.engine: the engines are postgres, mysql, redis"),
            ("[db.o]\nports = { dev = 70000 }", "/c:2: db.o.ports.dev: number too large"),
            ("[db.o]\niam = true\nsecret = 's'", "/c:3: db.o.secret: a token of IAM"),
            ("[db.o]\niam = 'yes'", "/c:2: db.o.iam: invalid type"),
            ("[db.o]\nbastion = '-x'", "/c:2: db.o.bastion: target '-x' starts with '-'"),
            ("[defaults]\nbastion = ''", "/c:2: defaults.bastion: "),
            ("[defaults\nx", "/c:1: "),
        ] {
            let wrong = parse(text).unwrap_err();
            assert!(wrong.contains(told), "{text:?}: {wrong}");
        }
        let near = "[alias.database]\ntarget = 't'\nforwards = [80]\n[group.g]\ntunnels = ['databse']";
        assert!(parse(near).unwrap_err().ends_with("there is no alias databse; did you mean database?"));
    }

    #[test]
    fn a_hostile_name_is_refused() {
        for name in [
            "",
            "a b",
            "-L",
            ".x",
            "$(id)",
            "a;b",
            "a/b",
            "a@b",
            "a:1",
            "é",
            "a\\u001b",
            "i-0123456789abcdef0",
            "10.0.0.1",
        ] {
            for text in [format!("[alias.\"{name}\"]\ntarget = 't'"), format!("[group.\"{name}\"]")] {
                let wrong = parse(&text).unwrap_err();
                assert!(wrong.starts_with("/c:1: "), "{text}: {wrong}");
            }
        }
        assert!(parse(&format!("[group.{}]", "x".repeat(65))).unwrap_err().ends_with("1 to 64 characters"));
    }

    #[test]
    fn deep_nesting_is_no_way_to_break_it() {
        assert!(parse(&format!("x = {}", "[".repeat(100_000))).is_err());
        assert!(parse(&format!("x = {}", "{a=".repeat(100_000))).is_err());
        assert!(parse(&format!("[{}]", "a.".repeat(100_000) + "a")).is_err());
    }
}
