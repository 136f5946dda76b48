//! The file as it is written. What a key may hold is checked by [`super::file`].

use std::collections::BTreeMap;
use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use toml::Spanned;

#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Document {
    pub(super) defaults: Defaults,
    pub(super) alias: BTreeMap<Spanned<String>, Machine>,
    pub(super) db: BTreeMap<Spanned<String>, Database>,
    pub(super) group: BTreeMap<Spanned<String>, Group>,
}

/// `[defaults]`
#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub(super) struct Defaults {
    pub(super) profile: Option<Spanned<Text>>,
    pub(super) region: Option<Spanned<Text>>,
    pub(super) endpoint_url: Option<Spanned<Text>>,
    pub(super) ssmmessages_endpoint_url: Option<Spanned<Text>>,
    pub(super) endpoints: Endpoints,
    pub(super) fips: Option<Spanned<Text>>,
    pub(super) dual_stack: Option<Spanned<Text>>,
    pub(super) proxy: Option<Spanned<Text>>,
    pub(super) no_proxy: Option<Spanned<Text>>,
    pub(super) ca_bundle: Option<Spanned<Text>>,
    pub(super) lanes: Option<Spanned<Text>>,
    pub(super) payload_size: Option<Spanned<Text>>,
    pub(super) pacing: Option<Spanned<Text>>,
    pub(super) keep_alive: Option<Spanned<Text>>,
    pub(super) reconnect: Option<Spanned<Text>>,
    pub(super) bastion: Option<Spanned<Text>>,
}

/// `[alias.NAME]`, or a table in a group.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub(super) struct Machine {
    pub(super) target: Option<Spanned<Text>>,
    pub(super) user: Option<Spanned<Text>>,
    pub(super) document: Option<Spanned<Text>>,
    pub(super) forwards: Vec<Spanned<Text>>,
    pub(super) proxies: Vec<Spanned<Text>>,
    pub(super) profile: Option<Spanned<Text>>,
    pub(super) region: Option<Spanned<Text>>,
    pub(super) endpoint_url: Option<Spanned<Text>>,
    pub(super) ssmmessages_endpoint_url: Option<Spanned<Text>>,
    pub(super) endpoints: Endpoints,
    pub(super) fips: Option<Spanned<Text>>,
    pub(super) dual_stack: Option<Spanned<Text>>,
    pub(super) proxy: Option<Spanned<Text>>,
    pub(super) no_proxy: Option<Spanned<Text>>,
    pub(super) ca_bundle: Option<Spanned<Text>>,
    pub(super) lanes: Option<Spanned<Text>>,
    pub(super) payload_size: Option<Spanned<Text>>,
    pub(super) pacing: Option<Spanned<Text>>,
    pub(super) keep_alive: Option<Spanned<Text>>,
    pub(super) reconnect: Option<Spanned<Text>>,
}

/// `[db.NAME]`
#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub(super) struct Database {
    pub(super) cluster: Option<Spanned<Text>>,
    pub(super) instance: Option<Spanned<Text>>,
    pub(super) cache: Option<Spanned<Text>>,
    pub(super) engine: Option<Spanned<Text>>,
    pub(super) bastion: Option<Spanned<Text>>,
    pub(super) user: Option<Spanned<Text>>,
    pub(super) database: Option<Spanned<Text>>,
    pub(super) secret: Option<Spanned<Text>>,
    pub(super) iam: Option<Spanned<bool>>,
    pub(super) local_port: Option<Spanned<Text>>,
    pub(super) ports: BTreeMap<Spanned<String>, Spanned<Text>>,
    pub(super) profile_filter: Option<Spanned<Text>>,
    pub(super) profile: Option<Spanned<Text>>,
    pub(super) region: Option<Spanned<Text>>,
    pub(super) endpoint_url: Option<Spanned<Text>>,
    pub(super) ssmmessages_endpoint_url: Option<Spanned<Text>>,
    pub(super) endpoints: Endpoints,
    pub(super) fips: Option<Spanned<Text>>,
    pub(super) dual_stack: Option<Spanned<Text>>,
    pub(super) proxy: Option<Spanned<Text>>,
    pub(super) no_proxy: Option<Spanned<Text>>,
    pub(super) ca_bundle: Option<Spanned<Text>>,
    pub(super) lanes: Option<Spanned<Text>>,
    pub(super) payload_size: Option<Spanned<Text>>,
    pub(super) pacing: Option<Spanned<Text>>,
    pub(super) keep_alive: Option<Spanned<Text>>,
    pub(super) reconnect: Option<Spanned<Text>>,
}

/// `[defaults.endpoints]`, `[alias.NAME.endpoints]`, `[db.NAME.endpoints]`
#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub(super) struct Endpoints {
    pub(super) ec2: Option<Spanned<Text>>,
    pub(super) ec2_instance_connect: Option<Spanned<Text>>,
    pub(super) ecs: Option<Spanned<Text>>,
    pub(super) elasticache: Option<Spanned<Text>>,
    pub(super) kms: Option<Spanned<Text>>,
    pub(super) rds: Option<Spanned<Text>>,
    pub(super) secrets_manager: Option<Spanned<Text>>,
    pub(super) sso: Option<Spanned<Text>>,
    pub(super) sso_oidc: Option<Spanned<Text>>,
    pub(super) sts: Option<Spanned<Text>>,
}

/// `[group.NAME]`
#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Group {
    pub(super) tunnels: Vec<Spanned<Entry>>,
}

/// A tunnel of a group.
#[derive(Debug)]
pub(super) enum Entry {
    Name(String),
    Machine(Box<Machine>),
}

impl<'de> Deserialize<'de> for Entry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AliasOrMachine;
        impl<'de> Visitor<'de> for AliasOrMachine {
            type Value = Entry;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of an alias or a database, or a table with target and forwards")
            }

            fn visit_str<E: Error>(self, name: &str) -> Result<Entry, E> {
                Ok(Entry::Name(name.to_owned()))
            }

            fn visit_map<M: MapAccess<'de>>(self, map: M) -> Result<Entry, M::Error> {
                Machine::deserialize(MapAccessDeserializer::new(map)).map(Box::new).map(Entry::Machine)
            }
        }
        deserializer.deserialize_any(AliasOrMachine)
    }
}

/// A value as the flag of its name takes it: `4` is as good as `"4"`, and `true` as `"true"`.
#[derive(Debug)]
pub(super) struct Text(pub(super) String);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AnyText;
        impl Visitor<'_> for AnyText {
            type Value = Text;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text or a number")
            }

            fn visit_bool<E: Error>(self, value: bool) -> Result<Text, E> {
                Ok(Text(value.to_string()))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Text, E> {
                Ok(Text(text.to_owned()))
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<Text, E> {
                Ok(Text(number.to_string()))
            }
        }
        deserializer.deserialize_any(AnyText)
    }
}
