//! Who logs in, and with what: a secret of Secrets Manager or a token of IAM.

use aws_sdk_rds::auth_token::{AuthTokenGenerator, Config as TokenConfig};
use aws_sdk_secretsmanager::error::ProvideErrorMetadata;
use aws_sdk_secretsmanager::types::{Filter, FilterNameStringType};
use serde::Deserialize;
use ssm_session::{AwsControl, Secret};

use crate::error::Error;
use crate::output::{complain, say};
use crate::picker;

use super::api::explain;
use super::database::{Database, Endpoint};

/// Secrets to choose from.
const SECRETS_MAX: usize = 100;

/// What the user may say about it.
#[derive(Debug, Clone, Default)]
pub(super) struct Wish {
    pub(super) user: Option<String>,
    /// The name, the ARN or the beginning of the name of a secret.
    pub(super) secret: Option<String>,
    pub(super) iam: bool,
    /// Whether somebody is going to use the password.
    pub(super) needed: bool,
    /// Whether there is no use in going on without it.
    pub(super) required: bool,
    /// Whether any of several secrets will do.
    pub(super) first: bool,
}

/// Who logs in.
#[derive(Debug, Default)]
pub(super) struct Login {
    pub(super) user: Option<String>,
    pub(super) password: Option<Secret<String>>,
    /// The database that the secret names.
    pub(super) schema: Option<String>,
    /// Where the password comes from, in words.
    pub(super) source: Option<String>,
}

/// Finds user and password.
///
/// # Errors
///
/// Says what is wrong with a secret, without what is in it.
pub(super) async fn find(
    account: &AwsControl,
    database: &Database,
    endpoint: &Endpoint,
    wish: &Wish,
) -> Result<Login, Error> {
    if wish.iam {
        return token(account, database, endpoint, wish.user.clone()).await;
    }
    let secrets = Secrets(aws_sdk_secretsmanager::Client::new(account.sdk_config()));
    if let Some(id) = &wish.secret {
        return secrets.login(&secrets.named(id, wish.first).await?, database, wish.user.as_deref()).await;
    }
    let user = wish.user.clone().or_else(|| database.user.clone());
    let no_password = Login { user: user.clone(), ..Login::default() };
    // What RDS keeps is for the master user.
    let managed = database.secret.as_deref().filter(|_| user == database.user && wish.needed);
    let why = match managed {
        Some(arn) => match secrets.read(arn).await {
            Ok(Content::Text(text)) => return login(arn, &text, database, user.as_deref()),
            Ok(Content::Nothing) => format!("there is no secret {arn}"),
            Err(error) => error.to_string(),
        },
        None => "no secret is known for it; name one with --secret, or log in with --iam".into(),
    };
    let what = format!("there is no password for {}: {why}", database.id);
    match (wish.needed, wish.required) {
        (_, true) => Err(Error::Database(what)),
        (true, false) if managed.is_some() => {
            complain(what);
            Ok(no_password)
        }
        (true, false) => {
            say(what);
            Ok(no_password)
        }
        (false, false) => Ok(no_password),
    }
}

/// A token for 15 minutes, in which the connection has to be opened. It is signed for the address of the database, wherever it is
/// reached.
async fn token(
    account: &AwsControl,
    database: &Database,
    endpoint: &Endpoint,
    user: Option<String>,
) -> Result<Login, Error> {
    if database.engine.is_cache() {
        return Err(Error::Usage("--iam is for databases of RDS; log in to a cache with --secret".into()));
    }
    if database.takes_iam == Some(false) {
        return Err(Error::Database(format!(
            "{} takes no tokens of IAM: that has to be turned on (enable-iam-database-authentication), and granted to the user",
            database.id
        )));
    }
    let user = user.or_else(|| database.user.clone());
    let Some(user) = user.filter(|user| user.bytes().all(is_plain)) else {
        return Err(Error::Usage("--iam needs a --user of letters, digits and any of _ - . @ $".into()));
    };
    let config =
        TokenConfig::builder().hostname(&endpoint.host).port(endpoint.port.into()).username(&user).build();
    let failed = |error: Box<dyn std::error::Error + Send + Sync>| {
        Error::Database(format!("there is no token of IAM: {error}"))
    };
    let generator = AuthTokenGenerator::new(config.map_err(failed)?);
    let token = generator.auth_token(account.sdk_config()).await.map_err(failed)?;
    Ok(Login {
        user: Some(user),
        password: Some(Secret::new(token.to_string())),
        schema: None,
        source: Some("a token of IAM, good for 15 minutes".into()),
    })
}

/// What goes into a URL as it is.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"_-.@$".contains(&byte)
}

struct Secrets(aws_sdk_secretsmanager::Client);

/// What an id leads to.
enum Content {
    Text(Secret<String>),
    Nothing,
}

impl Secrets {
    /// The id of the secret that is meant: this one if it is there, else the one whose name begins like this.
    async fn named(&self, id: &str, first: bool) -> Result<String, Error> {
        if id.starts_with("arn:") {
            return Ok(id.to_owned());
        }
        let name = Filter::builder().key(FilterNameStringType::Name).values(id).build();
        let mut pages = self.0.list_secrets().filters(name).into_paginator().send();
        let mut names: Vec<String> = Vec::new();
        while let Some(page) = pages.next().await
            && names.len() < SECRETS_MAX
        {
            match page {
                Ok(page) => {
                    let found = page.secret_list().iter().filter_map(|secret| secret.name());
                    names.extend(found.filter(|name| name.starts_with(id)).map(str::to_owned));
                }
                // Who may read one secret need not be allowed to list all of them.
                Err(error) => {
                    let error = explain("secretsmanager:ListSecrets", &error);
                    tracing::info!(%error, "secrets cannot be listed");
                    return Ok(id.to_owned());
                }
            }
        }
        if names.iter().any(|name| name == id) {
            return Ok(id.to_owned());
        }
        names.sort_unstable();
        match names.as_slice() {
            [] => {
                Err(Error::Database(format!("there is no secret {id}, and none whose name begins like that")))
            }
            [name] => Ok(name.clone()),
            [name, ..] if first => Ok(name.clone()),
            several => {
                let count = several.len();
                let said = format!(
                    "the names of {count} secrets begin with {id}; name one with --secret, or take any with --first:"
                );
                Ok(several[picker::one_of("secret", several, said).await?].clone())
            }
        }
    }

    async fn login(&self, id: &str, database: &Database, user: Option<&str>) -> Result<Login, Error> {
        match self.read(id).await? {
            Content::Text(text) => login(id, &text, database, user),
            Content::Nothing => Err(Error::Database(format!("there is no secret {id}"))),
        }
    }

    async fn read(&self, id: &str) -> Result<Content, Error> {
        match self.0.get_secret_value().secret_id(id).send().await {
            Ok(secret) => match secret.secret_string {
                Some(text) => Ok(Content::Text(Secret::new(text))),
                None => {
                    Err(Error::Database(format!("the secret {id} has no text (SecretString), only bytes")))
                }
            },
            Err(error) if error.code() == Some("ResourceNotFoundException") => Ok(Content::Nothing),
            Err(error) => Err(explain("secretsmanager:GetSecretValue", &error)),
        }
    }
}

/// The fields of a secret that are used; it may have others.
#[derive(Deserialize)]
struct Fields {
    username: Option<serde_json::Value>,
    password: Option<serde_json::Value>,
    dbname: Option<serde_json::Value>,
}

fn login(id: &str, text: &Secret<String>, database: &Database, user: Option<&str>) -> Result<Login, Error> {
    let wrong = |what: &str| Error::Database(format!("the secret {id} {what}"));
    // What the parser says could show some of it.
    let fields: Fields = serde_json::from_str(text.expose())
        .map_err(|_| wrong("is no object of JSON with username and password"))?;
    let field = |name: &str, value: Option<serde_json::Value>| match value {
        Some(serde_json::Value::String(text)) if !text.is_empty() && !text.contains('\0') => Ok(text),
        Some(_) => Err(wrong(&format!("has a field {name} that is no text, or is empty"))),
        None => Err(wrong(&format!("has no field {name}"))),
    };
    // The default user of a cache has no name.
    let username = match fields.username {
        None if database.engine.is_cache() => None,
        username => Some(field("username", username)?),
    };
    let password = field("password", fields.password)?;
    if let (Some(user), Some(username)) = (user, &username)
        && user != username
    {
        return Err(wrong(&format!("is for the user {username}, and not for {user}")));
    }
    Ok(Login {
        user: username.or_else(|| user.map(str::to_owned)),
        password: Some(Secret::new(password)),
        schema: fields.dbname.and_then(|name| name.as_str().map(str::to_owned)),
        source: Some(format!("the secret {id}")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::db::database::Kind;

    fn read(text: &str, engine: &str, user: Option<&str>) -> Result<Login, String> {
        let database = Database::new("d", Kind::Instance, engine, "available");
        login("s", &Secret::new(text.to_owned()), &database, user).map_err(|error| error.to_string())
    }

    #[test]
    fn user_and_password_are_read() {
        let text = r#"{"username":"app","password":"p w","dbname":"orders","port":5432}"#;
        let login = read(text, "postgres", None).unwrap();
        assert_eq!((login.user.as_deref(), login.schema.as_deref()), (Some("app"), Some("orders")));
        assert_eq!(login.password.unwrap().expose(), "p w");
        assert_eq!(read(r#"{"password":"x"}"#, "redis", None).unwrap().user, None);
    }

    #[test]
    fn each_thing_that_can_be_wrong_with_a_secret_is_told_apart_and_none_shows_it() {
        for (text, told) in [
            ("hunter2", "the secret s is no object of JSON"),
            (r#"["hunter2"]"#, "the secret s is no object of JSON"),
            (r#"{"username":"app","password":hunter2}"#, "the secret s is no object of JSON"),
            (r#"{"password":"hunter2"}"#, "the secret s has no field username"),
            (r#"{"username":"app","pass":"hunter2"}"#, "the secret s has no field password"),
            (
                r#"{"username":"app","password":["hunter2"]}"#,
                "the secret s has a field password that is no text",
            ),
            (
                r#"{"username":"","password":"hunter2"}"#,
                "the secret s has a field username that is no text, or is empty",
            ),
            ("{\"username\":\"app\",\"password\":\"hunter2\\u0000\"}", "the secret s has a field password"),
        ] {
            let wrong = read(text, "postgres", None).unwrap_err();
            assert!(wrong.contains(told) && !wrong.contains("hunter2"), "{text}: {wrong}");
        }
        let other = read(r#"{"username":"app","password":"hunter2"}"#, "postgres", Some("root")).unwrap_err();
        assert_eq!(other, "the secret s is for the user app, and not for root");
    }

    #[test]
    fn a_login_does_not_print_its_password() {
        let login = read(r#"{"username":"app","password":"hunter2"}"#, "postgres", None).unwrap();
        assert!(!format!("{login:?}").contains("hunter2"));
    }
}
