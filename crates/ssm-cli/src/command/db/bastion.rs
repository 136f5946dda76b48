//! The machine on the way: which one it is, and what becomes of the way when it is gone.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use aws_sdk_ec2::types::Filter;
use aws_sdk_ssm::error::ProvideErrorMetadata;
use aws_sdk_ssm::types::{ConnectionStatus, InstanceInformationStringFilter};
use indicatif::{ProgressBar, ProgressStyle};
use ssm_resolve::Target;
use ssm_session::{AwsControl, ControlError, ControlErrorKind, ControlPlane, Endpoint, StartSession};
use tokio::time::Instant;

use crate::error::Error;
use crate::output::{self, say};
use crate::picker;

use super::api::{READ_MAX, explain};
use super::catalog::Catalog;
use super::database::{Database, Role};

/// What is looked for when nobody says anything.
pub(super) const USUAL: &str = "tag:Name=*bastion*";

/// Time between two looks at a bastion that is not connected.
const POLL: Duration = Duration::from_secs(3);

/// Ids in one question.
const IDS_MAX: usize = 50;

/// Which machines may be the bastion, and how long one is waited for.
#[derive(Debug)]
pub(super) struct Bastions {
    ec2: aws_sdk_ec2::Client,
    ssm: aws_sdk_ssm::Client,
    wanted: Wanted,
    /// Whether any of several will do.
    pub(super) first: bool,
    pub(super) replace: Replace,
    pub(super) wait: Duration,
}

#[derive(Debug)]
pub(super) enum Wanted {
    /// This one.
    Named(String),
    /// A running instance with this tag.
    Tagged { key: String, value: String },
}

/// Whether a bastion that is not connected is terminated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Replace {
    No,
    /// When the user agrees.
    Ask,
    Agreed,
}

impl Wanted {
    /// What has to be looked for by tag; `None` for what a session can be started on, or is looked up like any other target.
    pub(super) fn tagged(target: &Target) -> Option<Self> {
        match target {
            Target::Tag(tag) => Some(Self::Tagged { key: tag.key().into(), value: tag.value().into() }),
            Target::Group(name) => {
                Some(Self::Tagged { key: "aws:autoscaling:groupName".into(), value: name.as_str().into() })
            }
            _ => None,
        }
    }
}

/// A running instance.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Machine {
    id: String,
    name: String,
    address: String,
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}  {}  {}", self.id, self.name, self.address)
    }
}

/// How things are with the bastion.
#[derive(Debug)]
enum State {
    /// This one can be used.
    Connected(String),
    /// These run and are not connected, or none does yet.
    Waiting(Vec<String>),
}

/// What is done about several that are connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Several {
    Ask,
    First,
}

impl Bastions {
    /// `endpoint_url` is that of Systems Manager.
    pub(super) fn new(account: &AwsControl, endpoint_url: Option<&str>, wanted: Wanted) -> Self {
        let config = account.sdk_config();
        let mut ssm = aws_sdk_ssm::config::Builder::from(config);
        if let Some(url) = endpoint_url {
            ssm = ssm.endpoint_url(url);
        }
        Self {
            ec2: aws_sdk_ec2::Client::new(config),
            ssm: aws_sdk_ssm::Client::from_conf(ssm.build()),
            wanted,
            first: false,
            replace: Replace::No,
            wait: Duration::ZERO,
        }
    }

    /// A bastion that is connected; one that is not is waited for, or replaced.
    ///
    /// # Errors
    ///
    /// When there is none, there are several, or time is up.
    pub(super) async fn connected(&self) -> Result<String, Error> {
        let several = if self.first { Several::First } else { Several::Ask };
        let waiting = match self.look(None, several).await? {
            State::Connected(id) => return Ok(id),
            State::Waiting(ids) => ids,
        };
        let gone = match (self.replace, waiting.as_slice()) {
            (Replace::No, _) => None,
            (_, [id]) => self.terminate(id).await?,
            (_, _) => {
                let all = waiting.join(", ");
                say(format_args!("none of {all} is connected; only a single bastion is replaced"));
                None
            }
        };
        let progress = Progress::new(match &gone {
            Some(id) => format!("waiting for another bastion in place of {id}"),
            None => {
                format!("bastion {} is not connected to Systems Manager; waiting for it", waiting.join(", "))
            }
        });
        let id = self.await_connected(gone.as_deref(), several).await?;
        drop(progress);
        say(format_args!("bastion {id} is connected"));
        Ok(id)
    }

    async fn await_connected(&self, gone: Option<&str>, several: Several) -> Result<String, Error> {
        let deadline = Instant::now() + self.wait;
        loop {
            tokio::time::sleep(POLL.min(self.wait)).await;
            match self.look(gone, several).await? {
                State::Connected(id) => return Ok(id),
                State::Waiting(ids) if Instant::now() >= deadline => return Err(self.too_late(&ids)),
                State::Waiting(_) => {}
            }
        }
    }

    fn too_late(&self, ids: &[String]) -> Error {
        let seconds = self.wait.as_secs();
        Error::Database(match ids {
            [] => format!("no other bastion has started within {seconds} s"),
            ids => format!(
                "bastion {} was not connected within {seconds} s: is the agent running there, and allowed by the role of the \
                 instance? (--bastion-wait waits longer, --replace-bastion terminates it)",
                ids.join(", ")
            ),
        })
    }

    /// Looks at those that are not `gone`.
    async fn look(&self, gone: Option<&str>, several: Several) -> Result<State, Error> {
        let (key, value) = match &self.wanted {
            Wanted::Named(id) => {
                let id = id.clone();
                // The call is for nodes; of a container, starting a session tells.
                let connected = id.starts_with("ecs:") || self.is_connected(&id).await?;
                return Ok(if connected { State::Connected(id) } else { State::Waiting(vec![id]) });
            }
            Wanted::Tagged { key, value } => (key, value),
        };
        let mut running = self.running(key, value).await?;
        if running.is_empty() && gone.is_none() {
            return Err(Error::Database(format!(
                "there is no bastion: no running instance has the tag {key}={value}; name one with --bastion, or with \
                 bastion = \"TARGET\" in the configuration"
            )));
        }
        running.retain(|machine| Some(machine.id.as_str()) != gone);
        let online = match running.as_slice() {
            [] | [_] => running,
            _ => self.online(running).await?,
        };
        let machine = match online.as_slice() {
            [] => return Ok(State::Waiting(Vec::new())),
            [machine] => machine,
            [machine, ..] if several == Several::First => machine,
            all => &all[choose(key, value, all).await?],
        };
        let id = machine.id.clone();
        let connected = self.is_connected(&id).await?;
        Ok(if connected { State::Connected(id) } else { State::Waiting(vec![id]) })
    }

    /// Running instances with the tag.
    async fn running(&self, key: &str, value: &str) -> Result<Vec<Machine>, Error> {
        let tag = Filter::builder().name(format!("tag:{key}")).values(value).build();
        let running = Filter::builder().name("instance-state-name").values("running").build();
        let call = self.ec2.describe_instances().filters(tag).filters(running).max_results(1000);
        let mut pages = call.into_paginator().send();
        let mut machines = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| explain("ec2:DescribeInstances", &error))?;
            for instance in page.reservations().iter().flat_map(|reservation| reservation.instances()) {
                let name = instance.tags().iter().find(|tag| tag.key() == Some("Name"));
                let id = instance.instance_id().unwrap_or_default();
                if is_instance_id(id) && machines.len() < READ_MAX {
                    machines.push(Machine {
                        id: id.to_owned(),
                        name: name.and_then(|tag| tag.value()).unwrap_or_default().to_owned(),
                        address: instance.private_ip_address().unwrap_or_default().to_owned(),
                    });
                }
            }
        }
        Ok(machines)
    }

    /// Those that Systems Manager calls online; all, when there is none, so that one of them is waited for.
    async fn online(&self, running: Vec<Machine>) -> Result<Vec<Machine>, Error> {
        let mut online = BTreeSet::new();
        for machines in running.chunks(IDS_MAX) {
            let ids = machines.iter().map(|machine| machine.id.clone()).collect();
            let ids = filter("InstanceIds", ids)?;
            let online_only = filter("PingStatus", vec!["Online".into()])?;
            let call =
                self.ssm.describe_instance_information().filters(ids).filters(online_only).max_results(50);
            let answer = call.send().await;
            let answer = answer.map_err(|error| explain("ssm:DescribeInstanceInformation", &error))?;
            let nodes = answer.instance_information_list().iter();
            online.extend(nodes.filter_map(|node| node.instance_id().map(str::to_owned)));
        }
        Ok(running.into_iter().filter(|machine| online.contains(&machine.id)).collect())
    }

    /// Whether a session could be started. Who may not ask finds out by starting one.
    async fn is_connected(&self, id: &str) -> Result<bool, Error> {
        match self.ssm.get_connection_status().target(id).send().await {
            Ok(answer) => Ok(answer.status() != Some(&ConnectionStatus::NotConnected)),
            Err(error) if matches!(error.code(), Some("AccessDeniedException" | "AccessDenied")) => {
                tracing::info!(bastion = id, "whether it is connected cannot be asked");
                Ok(true)
            }
            Err(error) => Err(explain("ssm:GetConnectionStatus", &error)),
        }
    }

    /// Terminates a bastion, if the user agrees; gives its id then.
    async fn terminate(&self, id: &str) -> Result<Option<String>, Error> {
        if let Wanted::Named(_) = self.wanted {
            return Err(Error::Usage(
                "--replace-bastion looks for the next bastion by its tag, which --bastion has to be: tag:KEY=VALUE".into(),
            ));
        }
        if self.replace == Replace::Ask {
            if !picker::is_possible() {
                return Err(Error::Usage(format!(
                    "--replace-bastion would terminate {id} and has nobody to ask; --yes agrees beforehand"
                )));
            }
            let prompt = format!("bastion {id} is not connected; terminate it?");
            let answer =
                picker::choose(&prompt, &["no, wait for it".into(), format!("yes, terminate {id}")]).await?;
            if answer == 0 {
                return Ok(None);
            }
        }
        let call = self.ec2.terminate_instances().instance_ids(id).send();
        call.await.map_err(|error| explain("ec2:TerminateInstances", &error))?;
        say(format_args!("bastion {id} was terminated"));
        Ok(Some(id.to_owned()))
    }
}

async fn choose(key: &str, value: &str, machines: &[Machine]) -> Result<usize, Error> {
    let items: Vec<String> = machines.iter().map(ToString::to_string).collect();
    let said = format!(
        "{} bastions have the tag {key}={value}; name one with --bastion, or take any with --first:",
        items.len()
    );
    picker::one_of("bastion", &items, said).await
}

fn filter(key: &str, values: Vec<String>) -> Result<InstanceInformationStringFilter, Error> {
    let filter = InstanceInformationStringFilter::builder().key(key).set_values(Some(values)).build();
    filter.map_err(|error| {
        Error::Database(format!("ssm:DescribeInstanceInformation cannot be called: {error}"))
    })
}

/// As EC2 makes them.
fn is_instance_id(text: &str) -> bool {
    let digits = text.strip_prefix("i-").unwrap_or_default();
    let is_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    (8..=17).contains(&digits.len()) && digits.bytes().all(is_hex)
}

/// Says that something takes time: once, or on a terminal for as long as it does.
struct Progress(Option<ProgressBar>);

impl Progress {
    fn new(what: String) -> Self {
        let bar = ProgressBar::new_spinner();
        if bar.is_hidden() || output::is_quiet() {
            say(what);
            return Self(None);
        }
        let style = ProgressStyle::with_template("ssm: {msg} {elapsed} {spinner}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
        bar.set_message(what);
        bar.enable_steady_tick(Duration::from_millis(200));
        Self(Some(bar))
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}

/// Starts sessions to a database through a bastion. When that is not connected any more, it is waited for, another one with its
/// tag takes its place, and the database is asked for its address again.
#[derive(Debug)]
pub(crate) struct Gate {
    pub(super) account: AwsControl,
    pub(super) bastions: Bastions,
    pub(super) catalog: Catalog,
    pub(super) database: Database,
    pub(super) role: Role,
    /// The bastion that was used last.
    pub(super) bastion: Mutex<String>,
}

impl Gate {
    pub(crate) fn account(&self) -> &AwsControl {
        &self.account
    }

    /// `StartSession` through the bastion there is.
    pub(crate) async fn start(&self, request: &StartSession) -> Result<Endpoint, ControlError> {
        let mut request = request.clone();
        request.target = self.bastion();
        let deadline = Instant::now() + self.bastions.wait;
        loop {
            match self.account.start(&request).await {
                Err(error)
                    if error.kind() == ControlErrorKind::TargetNotConnected && Instant::now() < deadline =>
                {
                    tracing::info!(%error, "the bastion is gone");
                }
                other => return other,
            }
            say(format_args!(
                "bastion {} is not connected; waiting for it, or for another one",
                request.target
            ));
            let found = self.bastions.await_connected(None, Several::First).await;
            let id = found.map_err(|error| {
                ControlError::new(ControlErrorKind::TargetNotConnected, error.to_string())
            })?;
            say(format_args!("bastion {id} is connected"));
            self.bastion.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&id);
            request.target = id;
            self.look_up_again(&mut request).await;
        }
    }

    /// The bastion of the sessions that are started from here on.
    pub(crate) fn bastion(&self) -> String {
        self.bastion.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What cannot be asked for stays as it was.
    async fn look_up_again(&self, request: &mut StartSession) {
        let found = self.catalog.all(Some(self.database.engine)).await;
        let same =
            |database: &&Database| database.id == self.database.id && database.kind == self.database.kind;
        if let Some(Ok(endpoint)) =
            found.databases.iter().find(same).map(|database| database.endpoint(self.role))
        {
            request.parameters.insert("host".into(), vec![endpoint.host.clone()]);
            request.parameters.insert("portNumber".into(), vec![endpoint.port.to_string()]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_ec2_makes_is_an_instance_id() {
        assert!(is_instance_id("i-01234567") && is_instance_id("i-0123456789abcdef0"));
        for wrong in
            ["i-0123456", "i-0123456789abcdef01", "i-0123456G", "mi-01234567", "i-0123456A", "", "i-"]
        {
            assert!(!is_instance_id(wrong), "{wrong}");
        }
    }

    #[test]
    fn a_tag_is_looked_for_and_an_id_is_not() {
        let tagged = |text: &str| Wanted::tagged(&text.parse().unwrap());
        assert!(
            matches!(tagged(USUAL), Some(Wanted::Tagged { key, value }) if key == "Name" && value == "*bastion*")
        );
        assert!(
            matches!(tagged("asg:jump"), Some(Wanted::Tagged { key, .. }) if key == "aws:autoscaling:groupName")
        );
        assert!(tagged("i-01234567").is_none() && tagged("10.0.0.1").is_none());
    }
}
