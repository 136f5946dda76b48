//! Operations in AWS's query protocol, of which there is one: who is it that asks.

use http::StatusCode;
use ssm_proto::MessageId;

use crate::api::{ApiError, owner_arn};
use crate::config::Config;
use crate::random;

/// Namespace of the answers of STS (botocore `sts/2011-06-15`).
const NAMESPACE: &str = "https://sts.amazonaws.com/doc/2011-06-15/";

/// Runs the operation that `Action` in a form names. Gives the XML of its answer.
pub(crate) fn call(config: &Config, form: &[u8]) -> Result<String, ApiError> {
    let action = form.split(|byte| *byte == b'&').find_map(|pair| pair.strip_prefix(b"Action="));
    if action != Some(b"GetCallerIdentity") {
        return Err(ApiError::new(
            "InvalidAction",
            "the loopback does not know this action: of STS it serves GetCallerIdentity",
        ));
    }
    let (arn, request) = (owner_arn(config), request_id());
    Ok(format!(
        "<GetCallerIdentityResponse xmlns=\"{NAMESPACE}\"><GetCallerIdentityResult><Arn>{arn}</Arn>\
         <UserId>AIDALOOPBACK</UserId><Account>000000000000</Account></GetCallerIdentityResult>\
         <ResponseMetadata><RequestId>{request}</RequestId></ResponseMetadata></GetCallerIdentityResponse>"
    ))
}

/// An error as the query protocol has it.
pub(crate) fn error(error: &ApiError) -> String {
    let kind = if error.status == StatusCode::INTERNAL_SERVER_ERROR { "Receiver" } else { "Sender" };
    // JSON services have names of their own for these two.
    let code = match error.code {
        "InvalidSignatureException" => "SignatureDoesNotMatch",
        "UnrecognizedClientException" => "InvalidClientTokenId",
        other => other,
    };
    let (message, request) = (escape(&error.message), request_id());
    format!(
        "<ErrorResponse xmlns=\"{NAMESPACE}\"><Error><Type>{kind}</Type><Code>{code}</Code>\
         <Message>{message}</Message></Error><RequestId>{request}</RequestId></ErrorResponse>"
    )
}

fn request_id() -> MessageId {
    MessageId::from_random(random::bytes())
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
