//! The service: starts, resumes and ends sessions, and runs the relay and the agent of each.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::{HeaderMap, HeaderValue, Method, Uri};
use serde_json::Value;
use ssm_proto::{Layout, Token};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout};

use crate::agent;
use crate::clusters::Cluster;
use crate::config::{Cells, Config};
use crate::document::{self, Document, ParameterError, SessionType};
use crate::fault::{Cell, Faults, Refusal, Rules};
use crate::gateway::Command;
use crate::kms::KeyStore;
use crate::random;
use crate::relay::Relay;
use crate::session_store::{NewSession, Role, SessionStore};
use crate::sigv4::{KeyPair, Verifier};
use crate::tasks::Tasks;

/// How long an agent may take to end after its session has.
const AGENT_GRACE: Duration = Duration::from_secs(3);

/// Says that an upgrade is the agent's, which faults of the client's leave alone.
pub(crate) const AGENT_HEADER: &str = "x-loopback-end";

/// Everything the tasks of a loopback share.
pub(crate) struct Service {
    pub(crate) config: Arc<Config>,
    pub(crate) keys: KeyPair,
    pub(crate) rules: Arc<Rules>,
    pub(crate) faults: Arc<Faults>,
    pub(crate) tasks: Tasks,
    pub(crate) data_keys: KeyStore,
    documents: BTreeMap<String, Document>,
    addr: SocketAddr,
    store: Mutex<SessionStore>,
    started: Instant,
}

/// What StartSession names.
#[derive(Debug, Default)]
pub(crate) struct SessionRequest {
    pub(crate) target: String,
    pub(crate) document: Option<String>,
    pub(crate) parameters: BTreeMap<String, Vec<String>>,
    pub(crate) reason: Option<String>,
    /// What the session's id begins with, in place of the configured owner.
    pub(crate) owner: Option<&'static str>,
}

/// What StartSession and ResumeSession answer.
#[derive(Debug)]
pub(crate) struct SessionAnswer {
    pub(crate) session_id: String,
    /// Absent when a session that has ended is resumed.
    pub(crate) channel: Option<ChannelAnswer>,
}

/// How to open the data channel, once.
#[derive(Debug)]
pub(crate) struct ChannelAnswer {
    pub(crate) stream_url: String,
    pub(crate) token: Token,
}

/// Why a session does not start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    #[error("{0} is not connected.")]
    TargetNotConnected(String),
    #[error("Document with name {0} does not exist.")]
    InvalidDocument(String),
    #[error(transparent)]
    Parameters(#[from] ParameterError),
    #[error("too many sessions are running: end one first")]
    TooMany,
    #[error("the loopback is shutting down")]
    ShuttingDown,
}

/// There is no such session.
#[derive(Debug, thiserror::Error)]
#[error("Session {0} does not exist.")]
pub(crate) struct UnknownSession(pub(crate) String);

/// Why a session is not resumed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ResumeError {
    #[error(transparent)]
    Unknown(#[from] UnknownSession),
    #[error("a fault refuses to resume the session")]
    Refused(Refusal),
}

/// What the agent is told about a session it is to run.
#[derive(Debug, Clone)]
pub(crate) struct SessionStart {
    pub(crate) session_id: String,
    /// The node, which the agent says it is.
    pub(crate) target: String,
    pub(crate) session_type: SessionType,
    /// The document's properties with the parameters filled in.
    pub(crate) properties: Value,
}

/// Where the agent of one session connects to.
#[derive(Clone)]
pub(crate) struct AgentEndpoint {
    service: Arc<Service>,
    session_id: String,
}

/// A fresh, signed way in for the agent.
pub(crate) struct AgentChannel {
    pub(crate) url: Uri,
    /// Signature of the upgrade request.
    pub(crate) headers: HeaderMap,
    pub(crate) token: Token,
}

impl std::fmt::Debug for AgentEndpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AgentEndpoint").field("session_id", &self.session_id).finish_non_exhaustive()
    }
}

impl Service {
    pub(crate) fn new(config: Config, addr: SocketAddr) -> Self {
        let documents = document::built_in().into_iter().chain(config.documents.iter().cloned());
        let faults = Faults::default();
        for fault in &config.faults {
            faults.add_for_good(fault.clone());
        }
        Self {
            documents: documents.map(|document| (document.name.clone(), document)).collect(),
            keys: KeyPair::random(),
            rules: Arc::default(),
            faults: Arc::new(faults),
            tasks: Tasks::new(),
            data_keys: KeyStore::default(),
            addr,
            store: Mutex::default(),
            started: Instant::now(),
            config: Arc::new(config),
        }
    }

    /// The document of this name.
    pub(crate) fn document(&self, name: &str) -> Option<&Document> {
        self.documents.get(name)
    }

    /// The sessions and tokens. The lock is never held across an await.
    pub(crate) fn store(&self) -> MutexGuard<'_, SessionStore> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the machines have booted.
    pub(crate) fn nodes_are_connected(&self) -> bool {
        self.started.elapsed() >= self.config.connected_after
    }

    /// Signature checks for one of the service names.
    pub(crate) fn verifier(&self, service: &'static str) -> Verifier<'_> {
        Verifier { keys: &self.keys, region: &self.config.region, service, now: SystemTime::now() }
    }

    /// Whether sessions can be started on this node or container.
    pub(crate) fn is_connected(&self, target: &str) -> bool {
        self.nodes_are_connected() && self.config.targets.iter().any(|node| node == target)
            || self.config.clusters.iter().flat_map(Cluster::targets).any(|container| container == target)
    }

    /// Starts a session: its relay and its agent run from here on.
    pub(crate) fn start_session(
        self: &Arc<Self>,
        request: SessionRequest,
    ) -> Result<SessionAnswer, StartError> {
        let name = request.document.unwrap_or_else(|| document::DEFAULT.to_owned());
        if !self.is_connected(&request.target) {
            return Err(StartError::TargetNotConnected(request.target));
        }
        let document = self.documents.get(&name).ok_or_else(|| StartError::InvalidDocument(name.clone()))?;
        let owner = request.owner.unwrap_or(&self.config.owner);
        let start = SessionStart {
            session_id: format!("{owner}-{}", random::text(random::SUFFIX, 26)),
            target: request.target.clone(),
            session_type: document.body.session_type,
            properties: document.body.properties(&request.parameters)?,
        };
        let session_id = start.session_id.clone();
        let (relay, commands) = mpsc::channel(8);
        {
            let mut store = self.store();
            if store.open_count() >= self.config.max_sessions {
                return Err(StartError::TooMany);
            }
            let new = NewSession {
                id: session_id.clone(),
                target: request.target,
                document: name,
                reason: request.reason,
                relay: relay.clone(),
            };
            store.insert(new, SystemTime::now());
        }
        if self.run_session(start, relay, commands).is_none() {
            self.session_ended(&session_id);
            return Err(StartError::ShuttingDown);
        }
        Ok(SessionAnswer { channel: self.client_channel(&session_id), session_id })
    }

    /// A new token for a session that has not ended, and the session alone for one that has.
    pub(crate) fn resume_session(&self, id: &str) -> Result<SessionAnswer, ResumeError> {
        if self.store().find(id).is_none() {
            return Err(UnknownSession(id.to_owned()).into());
        }
        if let Some(refusal) = self.faults.resume() {
            return Err(ResumeError::Refused(refusal));
        }
        let moved = self.faults.cell();
        let old_url = self.stream_url(id);
        if moved.is_some() || self.config.cells == Cells::RotateOnResume {
            self.store().rotate_cell(id);
        }
        let mut channel = self.client_channel(id);
        if let Some(channel) = &mut channel {
            if moved == Some(Cell::Stale) {
                channel.stream_url = old_url;
            }
            if self.faults.token_is_used() {
                let _ = self.store().redeem(id, &channel.token, Instant::now());
            }
        }
        Ok(SessionAnswer { session_id: id.to_owned(), channel })
    }

    /// Whether a stream URL of another cell than the session's is refused.
    pub(crate) fn cells_expire(&self) -> bool {
        self.config.cells == Cells::RotateOnResume || self.faults.cells_expire()
    }

    /// The header of the messages the service makes itself.
    pub(crate) fn layout(&self) -> Layout {
        self.faults.layout().unwrap_or(self.config.service_layout)
    }

    /// Ends a session: from the moment this returns nobody can attach to it. Ending one that has ended changes nothing.
    pub(crate) async fn terminate_session(&self, id: &str) -> Result<(), UnknownSession> {
        let relay = {
            let mut store = self.store();
            store.find(id).ok_or_else(|| UnknownSession(id.to_owned()))?;
            let relay = store.relay(id);
            store.ending(id);
            relay
        };
        if let Some(relay) = relay {
            // A relay that is gone has ended the session itself.
            let _ = relay.send(Command::Terminate { output: String::new() }).await;
        }
        Ok(())
    }

    /// Ends every session and waits until their tasks have gone; what takes too long is aborted.
    pub(crate) async fn shut_down(&self) {
        let open: Vec<String> = self
            .store()
            .newest_first()
            .filter(|record| record.is_open())
            .map(|record| record.id.clone())
            .collect();
        for id in open {
            let _ = self.terminate_session(&id).await;
        }
        let mut tasks = self.tasks.close();
        let all_done = async { while tasks.join_next().await.is_some() {} };
        if timeout(AGENT_GRACE * 2, all_done).await.is_err() {
            tracing::warn!("tasks were still running at shutdown");
        }
        tasks.shutdown().await;
    }

    /// The relay says that both ends have been told.
    pub(crate) fn session_ended(&self, id: &str) {
        self.store().ended(id, SystemTime::now());
    }

    /// The value of `cell-number` in stream URLs: base64, so that it has to be escaped, as the real one.
    pub(crate) fn cell_number(cell: u32) -> String {
        BASE64_STANDARD.encode(cell.wrapping_add(0x0001_0000).to_be_bytes())
    }

    fn client_channel(&self, id: &str) -> Option<ChannelAnswer> {
        let token = self.store().mint(id, Role::Client, Instant::now(), self.config.token_lifetime)?;
        Some(ChannelAnswer { stream_url: self.stream_url(id), token })
    }

    pub(crate) fn stream_url(&self, id: &str) -> String {
        let cell = self.store().find(id).map_or(0, |record| record.cell);
        let cell = Self::cell_number(cell).replace('=', "%3D").replace('+', "%2B").replace('/', "%2F");
        format!("ws://{}/v1/data-channel/{id}?role=publish_subscribe&cell-number={cell}", self.addr)
    }

    /// Starts the two tasks of a session. The relay outlives the agent unless the session is ended from outside.
    fn run_session(
        self: &Arc<Self>,
        start: SessionStart,
        relay: mpsc::Sender<Command>,
        commands: mpsc::Receiver<Command>,
    ) -> Option<()> {
        let session_id = start.session_id.clone();
        let endpoint = AgentEndpoint { service: self.clone(), session_id: session_id.clone() };
        let config = self.config.clone();
        let (agent_done, agent_gone) = oneshot::channel::<()>();
        let agent = self.tasks.spawn(async move {
            let output = agent::run(start, endpoint, config).await;
            drop(agent_done);
            let _ = relay.send(Command::Finish { output }).await;
        })?;
        let relay = Relay::new(session_id, self.clone(), commands);
        self.tasks.spawn(async move {
            relay.run().await;
            if timeout(AGENT_GRACE, agent_gone).await.is_err() {
                tracing::warn!("the agent did not end with its session");
                agent.abort();
            }
        })?;
        Some(())
    }
}

impl AgentEndpoint {
    /// Starts a task that ends with the loopback at the latest.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let _ = self.service.tasks.spawn(task);
    }

    /// What goes wrong on purpose.
    pub(crate) fn faults(&self) -> &Arc<Faults> {
        &self.service.faults
    }

    /// The loopback's own KMS, which the agent's role may use.
    pub(crate) fn data_keys(&self) -> &KeyStore {
        &self.service.data_keys
    }

    /// A way to open the agent's data channel, or None when the session is over.
    pub(crate) fn open(&self) -> Option<AgentChannel> {
        let service = &self.service;
        let lifetime = service.config.token_lifetime;
        let token = service.store().mint(&self.session_id, Role::Agent, Instant::now(), lifetime)?;
        let url: Uri = service.stream_url(&self.session_id).parse().ok()?;
        let mut headers = service.verifier("ssmmessages").authorization(&Method::GET, &url).ok()?;
        headers.insert(AGENT_HEADER, HeaderValue::from_static("agent"));
        Some(AgentChannel { url, headers, token })
    }
}
