//! The SSM operations on documents: what StartSession would find under a name.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::api::{ApiError, invalid, parse};
use crate::document::{self, Document};
use crate::service::Service;

/// The only version that a document here has.
const VERSION: &str = "1";

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Request {
    #[serde(default)]
    name: String,
    document_version: Option<String>,
    document_format: Option<String>,
}

/// `GetDocument`.
pub(crate) fn get(service: &Service, body: &[u8]) -> Result<Value, ApiError> {
    let request: Request = parse(body)?;
    let document = find(service, &request)?;
    if request.document_format.is_some_and(|format| format != "JSON") {
        return Err(invalid("documentFormat", "the loopback keeps documents in JSON only"));
    }
    Ok(json!({
        "Name": document.name,
        "CreatedDate": 0,
        "DocumentVersion": VERSION,
        "Status": "Active",
        "Content": document.content.to_string(),
        "DocumentType": "Session",
        "DocumentFormat": "JSON",
    }))
}

/// `DescribeDocument`.
pub(crate) fn describe(service: &Service, body: &[u8]) -> Result<Value, ApiError> {
    let request: Request = parse(body)?;
    let document = find(service, &request)?;
    let parameters = document.body.parameters().map(|(name, default)| match default {
        Some(default) => json!({ "Name": name, "Type": "String", "DefaultValue": default }),
        None => json!({ "Name": name, "Type": "String" }),
    });
    let parameters: Vec<Value> = parameters.collect();
    let is_awss = document.name.starts_with("AWS-");
    Ok(json!({ "Document": {
        "Name": document.name,
        "Owner": if is_awss { "Amazon" } else { "000000000000" },
        "CreatedDate": 0,
        "Status": "Active",
        "DocumentVersion": VERSION,
        "Parameters": parameters,
        "PlatformTypes": ["Windows", "Linux", "MacOS"],
        "DocumentType": "Session",
        "SchemaVersion": "1.0",
        "LatestVersion": VERSION,
        "DefaultVersion": VERSION,
        "DocumentFormat": "JSON",
        "Tags": [],
    } }))
}

/// The default document of an account is there once its owner has set preferences; sessions start without it all the same.
fn find<'a>(service: &'a Service, request: &Request) -> Result<&'a Document, ApiError> {
    let name = request.name.as_str();
    document::check_name("name", name)?;
    if !matches!(request.document_version.as_deref(), None | Some(VERSION | "$DEFAULT" | "$LATEST")) {
        return Err(ApiError::new("InvalidDocumentVersion", "The document version is not valid."));
    }
    let is_set = name != document::DEFAULT || service.config.documents.iter().any(|own| own.name == name);
    let found = service.document(name).filter(|_| is_set);
    found
        .ok_or_else(|| ApiError::new("InvalidDocument", format!("Document with name {name} does not exist.")))
}
