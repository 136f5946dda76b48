//! [`Node`]: the managed nodes of an account, a page at a time.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_sdk_ec2::types::Filter as Ec2Filter;
use aws_sdk_ssm::types::{InstanceInformation, InstanceInformationStringFilter};

use crate::aws::{explain, id};
use crate::{AwsInventory, LookupError, LookupErrorKind, SessionTarget};

/// Nodes on one page: the most that DescribeInstanceInformation gives.
pub const NODES_PAGE: i32 = 50;

/// A managed node as Systems Manager and EC2 know it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Node {
    /// What a session is started on.
    pub target: SessionTarget,
    /// The Name tag of an instance; the name a machine outside of EC2 was registered with.
    pub name: Option<String>,
    /// What it calls itself.
    pub computer_name: Option<String>,
    /// State of the instance: `running`, `stopped`. None outside of EC2, or when EC2 was not asked.
    pub state: Option<String>,
    /// `Online`, `ConnectionLost` or `Inactive`.
    pub ping: Option<String>,
    /// When it was last heard of.
    pub last_ping: Option<SystemTime>,
    /// Version of the agent.
    pub agent_version: Option<String>,
    /// Whether there is no newer one.
    pub agent_latest: Option<bool>,
    /// `Linux`, `Windows` or `MacOS`.
    pub platform_type: Option<String>,
    /// Name of the system.
    pub platform: Option<String>,
    /// Version of the system.
    pub platform_version: Option<String>,
    /// Address, as the agent has told it.
    pub address: Option<String>,
}

impl Node {
    /// Whether a session can be started on it.
    pub fn is_online(&self) -> bool {
        self.ping.as_deref() == Some("Online")
    }
}

/// A filter of DescribeInstanceInformation: a node passes with any of the values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeFilter {
    /// `PingStatus`, `PlatformTypes`, `AgentVersion`, `InstanceIds`, `ResourceType`, `IamRole`, `ActivationIds`, `AssociationStatus`,
    /// `tag-key` or `tag:KEY`.
    pub key: String,
    /// At least one.
    pub values: Vec<String>,
}

/// The nodes that pass every filter, [`NODES_PAGE`] of them at a time: at most two pages are held, however many there are.
///
/// While a page of names is asked of EC2, the next page of nodes is under way.
#[derive(Debug)]
pub struct NodePages {
    inventory: AwsInventory,
    filters: Vec<InstanceInformationStringFilter>,
    fetched: Option<Result<Vec<InstanceInformation>, LookupError>>,
    next: Next,
    names: Names,
}

/// What the next call is for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Next {
    First,
    Token(String),
    Nothing,
}

/// Whether EC2 is asked for names and states.
#[derive(Debug)]
enum Names {
    Asked,
    /// Not any more.
    Missing(LookupError),
}

impl AwsInventory {
    /// Lists the nodes that pass every filter.
    ///
    /// The caller needs the IAM action `ssm:DescribeInstanceInformation` and, for Name tags and states, `ec2:DescribeInstances`.
    ///
    /// # Errors
    ///
    /// When a filter has no value.
    pub fn node_pages(&self, filters: &[NodeFilter]) -> Result<NodePages, LookupError> {
        let filters = filters.iter().map(|filter| {
            InstanceInformationStringFilter::builder()
                .key(&filter.key)
                .set_values((!filter.values.is_empty()).then(|| filter.values.clone()))
                .build()
                .map_err(|error| LookupError::new(LookupErrorKind::Invalid, error.to_string()))
        });
        Ok(NodePages {
            inventory: self.clone(),
            filters: filters.collect::<Result<_, _>>()?,
            fetched: None,
            next: Next::First,
            names: Names::Asked,
        })
    }
}

impl NodePages {
    /// The next page; `None` behind the last one. A page may be empty.
    ///
    /// Not cancel safe: a page may be lost.
    ///
    /// # Errors
    ///
    /// When Systems Manager could not be asked. EC2 is not needed: see [`names_missing`](Self::names_missing).
    pub async fn next_page(&mut self) -> Option<Result<Vec<Node>, LookupError>> {
        let page = match self.fetched.take() {
            Some(page) => page,
            None => self.fetch().await?,
        };
        let page = match page {
            Ok(page) => page,
            Err(error) => return Some(Err(error)),
        };
        let instances: Vec<String> = match self.names {
            Names::Asked => page
                .iter()
                .filter_map(|node| node.instance_id())
                .filter(|id| id.starts_with("i-"))
                .map(Into::into)
                .collect(),
            Names::Missing(_) => Vec::new(),
        };
        let inventory = self.inventory.clone();
        let (known, fetched) =
            futures_util::future::join(instance_names(&inventory, instances), self.fetch()).await;
        let known = known.unwrap_or_else(|error| {
            self.names = Names::Missing(error);
            BTreeMap::new()
        });
        // What is wrong with it is told when it is asked for: this page is good.
        self.fetched = fetched;
        Some(page.iter().map(|found| node(found, &known)).collect())
    }

    /// Why names and states of instances are missing, if they are: EC2 could not be asked, or not any more.
    pub fn names_missing(&self) -> Option<&LookupError> {
        match &self.names {
            Names::Asked => None,
            Names::Missing(error) => Some(error),
        }
    }

    async fn fetch(&mut self) -> Option<Result<Vec<InstanceInformation>, LookupError>> {
        let token = match &self.next {
            Next::First => None,
            Next::Token(token) => Some(token.clone()),
            Next::Nothing => return None,
        };
        let call = self.inventory.ssm.describe_instance_information().max_results(NODES_PAGE);
        let call = call.set_filters((!self.filters.is_empty()).then(|| self.filters.clone()));
        let answer = match call.set_next_token(token).send().await {
            Ok(answer) => answer,
            Err(error) => {
                self.next = Next::Nothing;
                return Some(Err(explain("ssm:DescribeInstanceInformation", &error)));
            }
        };
        let next = match answer.next_token.filter(|token| !token.is_empty()) {
            Some(token) => Next::Token(token),
            None => Next::Nothing,
        };
        if next != Next::Nothing && next == self.next {
            self.next = Next::Nothing;
            let message = "ssm:DescribeInstanceInformation gives the same page for ever";
            return Some(Err(LookupError::new(LookupErrorKind::Service, message)));
        }
        self.next = next;
        Some(Ok(answer.instance_information_list.unwrap_or_default()))
    }
}

/// Name tag and state of each of these instances, in one call.
async fn instance_names(
    inventory: &AwsInventory,
    ids: Vec<String>,
) -> Result<BTreeMap<String, (Option<String>, Option<String>)>, LookupError> {
    let mut known = BTreeMap::new();
    if ids.is_empty() {
        return Ok(known);
    }
    // As a filter: an id that EC2 has forgotten is no error then.
    let filter = Ec2Filter::builder().name("instance-id").set_values(Some(ids)).build();
    let mut pages = inventory.ec2.describe_instances().filters(filter).into_paginator().send();
    while let Some(page) = pages.next().await {
        let page = page.map_err(|error| explain("ec2:DescribeInstances", &error))?;
        for instance in page.reservations().iter().flat_map(|reservation| reservation.instances()) {
            let tag = instance.tags().iter().find(|tag| tag.key() == Some("Name"));
            let name = tag.and_then(|tag| tag.value()).map(Into::into);
            let state = instance.state().and_then(|state| state.name()).map(|state| state.as_str().into());
            known.insert(instance.instance_id().unwrap_or_default().to_owned(), (name, state));
        }
    }
    Ok(known)
}

fn node(
    found: &InstanceInformation,
    known: &BTreeMap<String, (Option<String>, Option<String>)>,
) -> Result<Node, LookupError> {
    let (name, state) = found.instance_id().and_then(|id| known.get(id)).cloned().unwrap_or_default();
    let text = |text: Option<&str>| text.filter(|text| !text.is_empty()).map(Into::into);
    Ok(Node {
        target: id(found.instance_id())?,
        name: name.or_else(|| text(found.name())),
        computer_name: text(found.computer_name()),
        state,
        ping: found.ping_status().map(|status| status.as_str().into()),
        last_ping: found.last_ping_date_time().and_then(|time| {
            let millis = u64::try_from(time.to_millis().ok()?).ok()?;
            UNIX_EPOCH.checked_add(Duration::from_millis(millis))
        }),
        agent_version: text(found.agent_version()),
        agent_latest: found.is_latest_version(),
        platform_type: found.platform_type().map(|platform| platform.as_str().into()),
        platform: text(found.platform_name()),
        platform_version: text(found.platform_version()),
        address: text(found.ip_address()),
    })
}
