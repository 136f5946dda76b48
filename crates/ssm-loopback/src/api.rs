//! The SSM operations in their JSON 1.1 form: fields and limits in, answers and AWS error names out.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use http::StatusCode;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::config::Config;
use crate::date;
use crate::document::check_name;
use crate::document_api;
use crate::ecs;
use crate::fault::Refusal;
use crate::service::{ResumeError, Service, SessionAnswer, SessionRequest, StartError, UnknownSession};
use crate::session_store::{Record, Status};

/// An error answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ApiError {
    pub(crate) status: StatusCode,
    /// The `__type`.
    pub(crate) code: &'static str,
    pub(crate) message: String,
}

impl ApiError {
    pub(crate) fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, code, message: message.into() }
    }
}

/// Runs the operation that an `X-Amz-Target` header names.
pub(crate) async fn call(service: &Arc<Service>, target: &str, body: &[u8]) -> Result<Value, ApiError> {
    if let Some(operation) = target.strip_prefix(ecs::PREFIX) {
        return ecs::call(service, operation, body);
    }
    match target.strip_prefix("AmazonSSM.") {
        Some("StartSession") => start_session(service, parse(body)?),
        Some("ResumeSession") => resume_session(service, parse(body)?),
        Some("TerminateSession") => terminate_session(service, parse(body)?).await,
        Some("DescribeSessions") => describe_sessions(service, parse(body)?),
        Some("DescribeInstanceInformation") => describe_instance_information(service, parse(body)?),
        Some("GetDocument") => document_api::get(service, body),
        Some("DescribeDocument") => document_api::describe(service, body),
        Some("GetConnectionStatus") => connection_status(service, parse(body)?),
        _ => Err(ApiError::new(
            "UnknownOperationException",
            "the loopback does not know this operation: it serves the sessions and documents of SSM",
        )),
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct StartSession {
    #[serde(default)]
    target: String,
    document_name: Option<String>,
    reason: Option<String>,
    #[serde(default)]
    parameters: Option<BTreeMap<String, Vec<String>>>,
}

fn start_session(service: &Arc<Service>, input: StartSession) -> Result<Value, ApiError> {
    limit("target", &input.target, 1..=400)?;
    if let Some(name) = &input.document_name {
        check_name("documentName", name)?;
    }
    if let Some(reason) = &input.reason {
        limit("reason", reason, 1..=256)?;
    }
    let parameters = input.parameters.unwrap_or_default();
    for (key, values) in &parameters {
        limit("parameters", key, 1..=255)?;
        values.iter().try_for_each(|value| limit("parameters", value, 1..=65_535))?;
    }
    let request = SessionRequest {
        target: input.target,
        document: input.document_name,
        parameters,
        reason: input.reason,
        owner: None,
    };
    service.start_session(request).map(session_answer).map_err(start_error)
}

fn start_error(error: StartError) -> ApiError {
    let message = error.to_string();
    match error {
        StartError::TargetNotConnected(_) => ApiError::new("TargetNotConnected", message),
        StartError::InvalidDocument(_) => ApiError::new("InvalidDocument", message),
        StartError::Parameters(_) => ApiError::new("InvalidParameters", message),
        StartError::TooMany => ApiError::new("ThrottlingException", message),
        StartError::ShuttingDown => ApiError {
            status: StatusCode::INTERNAL_SERVER_ERROR,
            ..ApiError::new("InternalServerError", message)
        },
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct SessionId {
    #[serde(default)]
    session_id: String,
}

fn resume_session(service: &Service, input: SessionId) -> Result<Value, ApiError> {
    limit("sessionId", &input.session_id, 1..=96)?;
    service.resume_session(&input.session_id).map(session_answer).map_err(|error| {
        let (status, code) = match &error {
            ResumeError::Unknown(_) => (StatusCode::BAD_REQUEST, "DoesNotExistException"),
            // The code of JSON services is 400 for both; 403 is what a gateway in front of them answers.
            ResumeError::Refused(Refusal::Denied) => (StatusCode::FORBIDDEN, "AccessDeniedException"),
            ResumeError::Refused(Refusal::Throttled) => {
                (StatusCode::TOO_MANY_REQUESTS, "ThrottlingException")
            }
            ResumeError::Refused(Refusal::Failed(status)) => {
                let status = StatusCode::from_u16(*status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
                (status, "InternalServerError")
            }
        };
        ApiError { status, ..ApiError::new(code, error.to_string()) }
    })
}

async fn terminate_session(service: &Service, input: SessionId) -> Result<Value, ApiError> {
    limit("sessionId", &input.session_id, 1..=96)?;
    service.terminate_session(&input.session_id).await.map_err(unknown_session)?;
    Ok(json!({ "SessionId": input.session_id }))
}

fn unknown_session(error: UnknownSession) -> ApiError {
    ApiError::new("DoesNotExistException", error.to_string())
}

fn session_answer(answer: SessionAnswer) -> Value {
    match answer.channel {
        Some(channel) => json!({
            "SessionId": answer.session_id,
            "StreamUrl": channel.stream_url,
            "TokenValue": channel.token.expose(),
        }),
        None => json!({ "SessionId": answer.session_id }),
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DescribeSessions {
    #[serde(default)]
    state: String,
    max_results: Option<i64>,
    next_token: Option<String>,
    #[serde(default)]
    filters: Vec<SessionFilter>,
}

#[derive(Deserialize)]
struct SessionFilter {
    key: String,
    value: String,
}

fn describe_sessions(service: &Service, input: DescribeSessions) -> Result<Value, ApiError> {
    let active = match input.state.as_str() {
        "Active" => true,
        "History" => false,
        _ => return Err(invalid("state", "Member must satisfy enum value set: [Active, History]")),
    };
    let page = page_size(input.max_results, 1..=200, 200)?;
    let below = next_token(input.next_token.as_deref())?.unwrap_or(u64::MAX);
    if input.filters.len() > 6 {
        return Err(invalid("filters", "Member must have length less than or equal to 6"));
    }
    let owner = owner_arn(&service.config);
    for filter in &input.filters {
        limit("filters", &filter.value, 1..=400)?;
        if !SESSION_FILTERS.contains(&filter.key.as_str()) {
            return Err(ApiError::new(
                "InvalidFilterKey",
                format!("{} is not a filter of sessions", filter.key),
            ));
        }
    }
    let store = service.store();
    let mut matching = store
        .newest_first()
        .filter(|record| record.number < below && (record.status != Status::Terminated) == active)
        .filter(|record| input.filters.iter().all(|filter| filter.matches(record, &owner)));
    let sessions: Vec<&Record> = matching.by_ref().take(page).collect();
    let more = matching.next().is_some();
    let mut answer =
        json!({ "Sessions": sessions.iter().map(|record| session(record, service)).collect::<Vec<_>>() });
    if let Some(last) = sessions.last().filter(|_| more) {
        answer["NextToken"] = json!(last.number.to_string());
    }
    Ok(answer)
}

const SESSION_FILTERS: [&str; 6] =
    ["InvokedAfter", "InvokedBefore", "Target", "Owner", "Status", "SessionId"];

impl SessionFilter {
    fn matches(&self, record: &Record, owner: &str) -> bool {
        match self.key.as_str() {
            "InvokedAfter" => date::parse_extended(&self.value).is_none_or(|time| record.started >= time),
            "InvokedBefore" => date::parse_extended(&self.value).is_none_or(|time| record.started <= time),
            "Target" => record.target == self.value,
            "Owner" => owner == self.value,
            "Status" => record.status.name() == self.value,
            _ => record.id == self.value,
        }
    }
}

fn session(record: &Record, service: &Service) -> Value {
    let mut session = json!({
        "SessionId": record.id,
        "Target": record.target,
        "Status": record.status.name(),
        "StartDate": epoch_seconds(record.started),
        "DocumentName": record.document,
        "Owner": owner_arn(&service.config),
        "OutputUrl": {},
        "AccessType": "Standard",
    });
    if let Some(ended) = record.ended {
        session["EndDate"] = json!(epoch_seconds(ended));
    }
    if let Some(reason) = &record.reason {
        session["Reason"] = json!(reason);
    }
    if let Some(longest) = service.config.max_duration {
        session["MaxSessionDuration"] = json!((longest.as_secs().div_ceil(60)).to_string());
    }
    session
}

pub(crate) fn owner_arn(config: &Config) -> String {
    format!("arn:aws:iam::000000000000:user/{}", config.owner)
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DescribeInstanceInformation {
    max_results: Option<i64>,
    next_token: Option<String>,
    #[serde(default)]
    filters: Vec<InstanceFilter>,
    #[serde(default)]
    instance_information_filter_list: Vec<LegacyFilter>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct InstanceFilter {
    key: String,
    values: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LegacyFilter {
    key: String,
    value_set: Vec<String>,
}

fn describe_instance_information(
    service: &Service,
    input: DescribeInstanceInformation,
) -> Result<Value, ApiError> {
    let page = page_size(input.max_results, 5..=50, 10)?;
    let skip = next_token(input.next_token.as_deref())?.unwrap_or(0);
    let legacy = input
        .instance_information_filter_list
        .into_iter()
        .map(|filter| InstanceFilter { key: filter.key, values: filter.value_set });
    let filters: Vec<InstanceFilter> = input.filters.into_iter().chain(legacy).collect();
    let skip = usize::try_from(skip).unwrap_or(usize::MAX);
    let (mut found, mut answers) = (0, Vec::new());
    for target in &service.config.targets {
        // Without filters all that come before the page are passed over as they are: fleets have many pages.
        if filters.is_empty() && found < skip {
            found += 1;
            continue;
        }
        let instance = instance(target, service);
        let mut passes = true;
        for filter in &filters {
            passes &= filter.matches(&instance)?;
        }
        if passes {
            found += 1;
            if found > skip {
                answers.push(instance);
            }
            if answers.len() > page {
                break;
            }
        }
    }
    let mut answer = json!({ "InstanceInformationList": answers.iter().take(page).collect::<Vec<_>>() });
    if answers.len() > page {
        answer["NextToken"] = json!((skip + page).to_string());
    }
    Ok(answer)
}

impl InstanceFilter {
    fn matches(&self, instance: &Value) -> Result<bool, ApiError> {
        let member = match self.key.as_str() {
            "InstanceIds" => "InstanceId",
            "PingStatus" => "PingStatus",
            "PlatformTypes" | "PlatformType" => "PlatformType",
            "AgentVersion" => "AgentVersion",
            "ResourceType" => "ResourceType",
            "ActivationIds" => "ActivationId",
            "IamRole" => "IamRole",
            "AssociationStatus" => "AssociationStatus",
            "tag-key" => "tag",
            key if key.starts_with("tag:") => "tag",
            key => {
                return Err(ApiError::new("InvalidFilterKey", format!("{key} is not a filter of instances")));
            }
        };
        Ok(self.values.iter().any(|value| instance[member] == value.as_str()))
    }
}

fn instance(target: &str, service: &Service) -> Value {
    json!({
        "InstanceId": target,
        "PingStatus": if service.nodes_are_connected() { "Online" } else { "ConnectionLost" },
        "LastPingDateTime": epoch_seconds(SystemTime::now()),
        "AgentVersion": service.config.agent_version,
        "IsLatestVersion": true,
        "PlatformType": if cfg!(target_os = "macos") { "MacOS" } else { "Linux" },
        "PlatformName": "Loopback",
        "PlatformVersion": env!("CARGO_PKG_VERSION"),
        "ResourceType": if target.starts_with("mi-") { "ManagedInstance" } else { "EC2Instance" },
        "IPAddress": "127.0.0.1",
        "ComputerName": "localhost",
    })
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct GetConnectionStatus {
    #[serde(default)]
    target: String,
}

fn connection_status(service: &Service, input: GetConnectionStatus) -> Result<Value, ApiError> {
    limit("target", &input.target, 1..=400)?;
    let status = if service.is_connected(&input.target) { "connected" } else { "notconnected" };
    Ok(json!({ "Target": input.target, "Status": status }))
}

pub(crate) fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    let body: &[u8] = if body.is_empty() { b"{}" } else { body };
    serde_json::from_slice(body).map_err(|error| ApiError::new("SerializationException", error.to_string()))
}

fn limit(field: &str, value: &str, length: RangeInclusive<usize>) -> Result<(), ApiError> {
    let count = value.chars().count();
    if count < *length.start() {
        let bound = length.start();
        return Err(invalid(field, &format!("Member must have length greater than or equal to {bound}")));
    }
    if count > *length.end() {
        let bound = length.end();
        return Err(invalid(field, &format!("Member must have length less than or equal to {bound}")));
    }
    Ok(())
}

fn page_size(given: Option<i64>, range: RangeInclusive<i64>, default: usize) -> Result<usize, ApiError> {
    match given {
        None => Ok(default),
        Some(size) if range.contains(&size) => Ok(size as usize),
        Some(_) => {
            let (low, high) = (range.start(), range.end());
            Err(invalid("maxResults", &format!("Member must have value between {low} and {high}")))
        }
    }
}

fn next_token(token: Option<&str>) -> Result<Option<u64>, ApiError> {
    token
        .map(str::parse)
        .transpose()
        .map_err(|_| ApiError::new("InvalidNextToken", "the token is not of this service"))
}

pub(crate) fn invalid(field: &str, constraint: &str) -> ApiError {
    let message =
        format!("1 validation error detected: Value at '{field}' failed to satisfy constraint: {constraint}");
    ApiError::new("ValidationException", message)
}

fn epoch_seconds(time: SystemTime) -> f64 {
    (time.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as f64) / 1000.0
}
