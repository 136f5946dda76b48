//! What several checks build on. Each is found out once, by whichever check needs it first.

use std::time::{Duration, SystemTime};

use aws_sdk_ssm::types::{InstanceInformation, SessionState};
use ssm_resolve::{ParseTargetError, Target};
use ssm_session::{AccessKey, AwsControl, AwsOptions, CodePrompt, CodeRequest, ControlPlane, Rehearsal};
use tokio::sync::OnceCell;

use super::document::Preferences;
use super::outcome::{Check, Finding, Outcome};
use super::refusal::Refusal;
use super::way::{Service, Way};
use super::{document, node, permission, way};
use crate::args::ConnectionArgs;
use crate::config::{Config, Origin, Setting};
use crate::error::Error;
use crate::lookup;
use crate::options;
use crate::output::Took;

/// How long the region and the credentials may take to be found: an instance and single sign-on are asked for them.
const LIMIT: Duration = Duration::from_secs(30);

/// How long the way to an endpoint may take, and what waits for it.
const WAY_LIMIT: Duration = Duration::from_secs(60);

/// Credentials that expire within this are worth a word.
const SOON: Duration = Duration::from_secs(15 * 60);

/// What is examined.
pub(super) struct Case {
    /// What the user wrote, with its alias followed.
    pub(super) target: Option<String>,
    /// The document that the alias names.
    pub(super) document: Option<String>,
    /// Who says which region it is, if it is a flag or the configuration.
    region_from: Option<Origin>,
}

impl Case {
    /// Fills in what the configuration says.
    pub(super) fn new(target: Option<String>, connection: &mut ConnectionArgs, config: &Config) -> Self {
        let is_given = connection.region.is_some();
        let alias = config.fill(target.as_deref(), connection);
        let region_from = match is_given {
            true => Some(Origin::Flag(Setting::Region)),
            false => config
                .settings(alias.map(|alias| &alias.settings))
                .find(Setting::Region)
                .map(|value| value.origin.clone()),
        };
        Self {
            target: alias.map(|alias| alias.target.text.clone()).or(target),
            document: alias.and_then(|alias| Some(alias.document.as_ref()?.text.clone())),
            region_from,
        }
    }
}

/// The account, as it is found out.
pub(super) struct Account<'a> {
    pub(super) case: &'a Case,
    connection: &'a ConnectionArgs,
    control: OnceCell<Result<AwsControl, String>>,
    key: OnceCell<Result<AccessKey, String>>,
    ways: [OnceCell<Way>; Service::ALL.len()],
    caller: OnceCell<Result<Caller, Refusal>>,
    preferences: OnceCell<Result<Option<Preferences>, Refusal>>,
    target: OnceCell<Result<String, String>>,
    node: OnceCell<Result<Option<InstanceInformation>, Refusal>>,
}

/// Who STS says we are.
pub(super) struct Caller {
    account: String,
    arn: String,
}

impl Caller {
    /// What ids of sessions begin with: the name of the user, or of the session of a role.
    pub(super) fn name(&self) -> &str {
        self.arn.rsplit(['/', ':']).next().unwrap_or(&self.arn)
    }
}

impl<'a> Account<'a> {
    pub(super) fn new(case: &'a Case, connection: &'a ConnectionArgs) -> Self {
        Self {
            case,
            connection,
            control: OnceCell::new(),
            key: OnceCell::new(),
            ways: std::array::from_fn(|_| OnceCell::new()),
            caller: OnceCell::new(),
            preferences: OnceCell::new(),
            target: OnceCell::new(),
            node: OnceCell::new(),
        }
    }

    /// All checks that need the account, in the order they are told in.
    pub(super) fn checks(&self) -> Vec<Check<'_>> {
        let mut checks = vec![
            Check::new("region", LIMIT, self.region()),
            Check::new("credentials", LIMIT, self.credentials()),
        ];
        let services = Service::ALL.into_iter().filter(|service| service.is_used());
        checks.extend(
            services.map(|service| Check::new(service.check(), WAY_LIMIT, way::endpoint(self, service))),
        );
        checks.push(Check::new("clock", WAY_LIMIT, way::clock(self)));
        checks.push(Check::new("identity", WAY_LIMIT, self.identity()));
        checks.extend(permission::checks(self, WAY_LIMIT));
        checks.extend(document::checks(self, WAY_LIMIT));
        checks.extend(node::checks(self, WAY_LIMIT));
        checks
    }

    async fn region(&self) -> Finding {
        let region = self.control().await?.region();
        let variable = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let from = match &self.case.region_from {
            Some(origin) => origin.to_string(),
            None => match ["AWS_REGION", "AWS_DEFAULT_REGION"].into_iter().find(|name| variable(name)) {
                Some(name) => name.into(),
                None => "the AWS configuration, or the instance this is,".into(),
            },
        };
        Ok(Outcome::ok(format!("{region}, as {from} says")).with("region", region).with("from", from))
    }

    async fn credentials(&self) -> Finding {
        let key = match self.key().await? {
            Ok(key) => key,
            Err(why) => return Ok(Outcome::failed(why.as_str())),
        };
        let AccessKey { id, source, expires } = key;
        let found = format!("{id}, from {source}");
        let left = expires.map(|at| at.duration_since(SystemTime::now()).unwrap_or_default());
        let outcome = match left {
            Some(left) if left < SOON => Outcome::warn(
                format!("{found}, good for {}", Took(left)),
                "a session that lasts longer needs new ones to come back after a lost connection: renew them",
            ),
            Some(left) => Outcome::ok(format!("{found}, good for {}", Took(left))),
            None => Outcome::ok(found),
        };
        let seconds = left.map(|left| left.as_secs());
        Ok(outcome.with("key", id.as_str()).with("source", source.as_str()).with("expires_in_s", seconds))
    }

    async fn identity(&self) -> Finding {
        self.ready(Service::Sts).await?;
        let caller = match self.caller().await? {
            Ok(caller) => caller,
            Err(Refusal::Unaccepted(why)) => {
                return Ok(Outcome::fail(
                    format!("the credentials are not accepted: {why}"),
                    "renew them, or name another profile; when the signature is what is wrong, see clock",
                ));
            }
            Err(refusal) => return Ok(refusal.of_no_use("sts:GetCallerIdentity")),
        };
        let Caller { account, arn } = caller;
        let outcome = if arn.ends_with(":root") {
            Outcome::warn(
                format!("the root user of account {account}"),
                "nothing limits it: sessions are better had as a user or a role",
            )
        } else {
            Outcome::ok(format!("{arn}, account {account}"))
        };
        Ok(outcome.with("arn", arn.as_str()).with("account", account.as_str()))
    }

    /// The account; without one there is nothing to look at.
    pub(super) async fn control(&self) -> Result<&AwsControl, Outcome> {
        let load = async {
            let options =
                AwsOptions { code_prompt: Some(no_codes()), ..options::aws(self.connection).await? };
            AwsControl::load(options).await.map_err(Error::Account)
        };
        let load = async { load.await.map_err(|error: Error| error.to_string()) };
        self.control.get_or_init(|| load).await.as_ref().map_err(|why| Outcome::failed(why.as_str()))
    }

    /// The credentials, or why there are none.
    async fn key(&self) -> Result<&Result<AccessKey, String>, Outcome> {
        let control = self.control().await.map_err(nothing)?;
        let fetch = async { control.access_key().await.map_err(|error| error.to_string()) };
        Ok(self.key.get_or_init(|| fetch).await)
    }

    /// The way to a service.
    pub(super) async fn way(&self, service: Service) -> Result<&Way, Outcome> {
        let control = self.control().await.map_err(nothing)?;
        let look = async {
            let url = self.url(control, service).await;
            Way::find(&control.route().network, url).await
        };
        Ok(self.ways[service as usize].get_or_init(|| look).await)
    }

    /// Where a service is called; `None` where only the service itself can say.
    async fn url(&self, control: &AwsControl, service: Service) -> Option<String> {
        let (rehearsal, config) = Rehearsal::new(control.sdk_config());
        // Nothing is sent, so that every call fails.
        match service {
            Service::Ssm => {
                let ssm = aws_sdk_ssm::Client::new(&config);
                let _ = ssm.describe_sessions().state(SessionState::Active).send().await;
            }
            Service::SsmMessages => return control.route().streams.usual_url(),
            Service::Sts => {
                let _ = aws_sdk_sts::Client::new(&config).get_caller_identity().send().await;
            }
            #[cfg(feature = "lookup")]
            Service::Ec2 => {
                let _ = aws_sdk_ec2::Client::new(&config).describe_instances().send().await;
            }
            #[cfg(not(feature = "lookup"))]
            Service::Ec2 => {}
            Service::Kms => {
                let _ = aws_sdk_kms::Client::new(&config).generate_data_key().key_id("-").send().await;
            }
        }
        rehearsal.url()
    }

    /// Makes sure that a service can be asked.
    pub(super) async fn ready(&self, service: Service) -> Result<&AwsControl, Outcome> {
        if let Way::Closed { .. } = self.way(service).await? {
            return Err(Outcome::skip(format!("not known: {} is not reached", service.name())));
        }
        match self.key().await? {
            Ok(_) => self.control().await.map_err(nothing),
            Err(_) => Err(Outcome::skip("not known: there are no credentials")),
        }
    }

    /// Systems Manager, once it can be asked.
    pub(super) async fn ssm(&self) -> Result<aws_sdk_ssm::Client, Outcome> {
        Ok(aws_sdk_ssm::Client::new(self.ready(Service::Ssm).await?.sdk_config()))
    }

    /// Who we are, once STS can be asked.
    pub(super) async fn caller(&self) -> Result<&Result<Caller, Refusal>, Outcome> {
        let control = self.ready(Service::Sts).await?;
        let ask = async {
            let sts = aws_sdk_sts::Client::new(control.sdk_config());
            let answer = sts.get_caller_identity().send().await.map_err(|error| Refusal::of(&error))?;
            let (account, arn) = (answer.account.unwrap_or_default(), answer.arn.unwrap_or_default());
            Ok(Caller { account, arn })
        };
        Ok(self.caller.get_or_init(|| ask).await)
    }

    /// The preferences of the account; `None` when nobody has set any.
    pub(super) async fn preferences(&self) -> Result<&Result<Option<Preferences>, Refusal>, Outcome> {
        let ssm = self.ssm().await?;
        Ok(self.preferences.get_or_init(|| async { Preferences::find(&ssm).await }).await)
    }

    /// What a session would be started on. `None` when no machine is to be looked at.
    pub(super) async fn target(&self) -> Option<Result<&str, Outcome>> {
        let text = self.case.target.as_deref()?;
        let needs_account = text.parse().is_ok_and(|target: Target| target.session_target().is_none());
        if needs_account {
            // A search would offer to sign on, in the middle of the lines.
            match self.key().await {
                Ok(Ok(_)) => {}
                Ok(Err(_)) => return Some(Err(Outcome::skip("not looked for: there are no credentials"))),
                Err(outcome) => return Some(Err(outcome)),
            }
        }
        // Nobody is asked which one is meant, either.
        let search = async {
            let target: Target = text.parse().map_err(|error: ParseTargetError| error.to_string())?;
            let found =
                lookup::explain(&target, None, self.connection).await.map_err(|error| error.to_string())?;
            Ok(found.result.map_err(|error| error.to_string())?.target().to_string())
        };
        let found = self.target.get_or_init(|| search).await;
        Some(found.as_deref().map_err(|why| Outcome::failed(why.as_str())))
    }

    /// What Systems Manager knows of the machine.
    pub(super) async fn node(
        &self,
        id: &str,
    ) -> Result<&Result<Option<InstanceInformation>, Refusal>, Outcome> {
        let ssm = self.ssm().await?;
        Ok(self.node.get_or_init(|| async { node::find(&ssm, id).await }).await)
    }
}

/// Nobody is asked while lines come and go.
fn no_codes() -> CodePrompt {
    CodePrompt::new(|request: CodeRequest| async move {
        let device = request.device;
        Err(format!(
            "the doctor asks for no code of {device}: run a command that does first, ssm resolve NAME for one"
        ))
    })
}

/// For checks behind the one that says why there is no account.
fn nothing(_: Outcome) -> Outcome {
    Outcome::skip("not known: there is no account, see region")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_sessions_begin_with_a_name() {
        let name = |arn: &str| Caller { account: "1".into(), arn: arn.into() }.name().to_owned();
        assert_eq!(name("arn:aws:iam::1:user/path/ada"), "ada");
        assert_eq!(name("arn:aws:sts::1:assumed-role/Admin/ada@corp.example"), "ada@corp.example");
        assert_eq!(name("arn:aws:iam::1:root"), "root");
        assert_eq!(name(""), "");
    }
}
