//! Why a call of the API has no answer, as far as it matters here.

use std::error::Error as StdError;

use aws_sdk_ssm::error::{ProvideErrorMetadata, SdkError};
use ssm_session::is_throttling;

use super::outcome::Outcome;

const TRY_AGAIN: &str =
    "try again; if it stays so, something else than the service answers, or the service is not well";

/// Why a call has no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The caller may not do this; in the words of IAM.
    Denied(String),
    /// The service does not know the caller, or no longer.
    Unaccepted(String),
    /// Another error of the service.
    Answer { code: String, text: String },
    /// There was no answer.
    Unreached(String),
}

impl Refusal {
    pub(super) fn of<E>(error: &SdkError<E>) -> Self
    where
        E: ProvideErrorMetadata + StdError + 'static,
    {
        let text = || error.message().unwrap_or_default().to_owned();
        match error.code() {
            Some("AccessDenied" | "AccessDeniedException" | "UnauthorizedOperation") => Self::Denied(text()),
            Some(
                code @ ("ExpiredToken"
                | "ExpiredTokenException"
                | "RequestExpired"
                | "UnrecognizedClientException"
                | "InvalidClientTokenId"
                | "InvalidSignatureException"
                | "SignatureDoesNotMatch"
                | "AuthFailure"
                | "MissingAuthenticationToken"
                | "MissingAuthenticationTokenException"
                | "IncompleteSignature"
                | "IncompleteSignatureException"),
            ) => Self::Unaccepted(format!("{code}: {}", text())),
            Some(code) => Self::Answer { code: code.to_owned(), text: text() },
            None => match error.raw_response() {
                Some(response) => {
                    let code = format!("HTTP {}", response.status().as_u16());
                    Self::Answer { code, text: "which is no error of AWS".into() }
                }
                None => Self::Unreached(innermost(error)),
            },
        }
    }

    /// What it is for a check that wanted to know something else: nothing where another check tells of it, and otherwise a warning.
    pub(super) fn of_no_use(&self, action: &str) -> Outcome {
        match self {
            Self::Denied(_) => Outcome::skip(format!("not known: your permissions do not allow {action}")),
            Self::Unaccepted(_) => Outcome::skip("not known: the credentials are not accepted, see identity"),
            Self::Answer { code, text } => {
                Outcome::warn(format!("not known: {action} answers {code}, {text}"), TRY_AGAIN)
            }
            Self::Unreached(why) => {
                Outcome::warn(format!("not known: {action} has no answer: {why}"), TRY_AGAIN)
            }
        }
    }

    /// Whether the service would answer another time.
    pub(super) fn is_throttled(&self) -> bool {
        matches!(self, Self::Answer { code, .. } if is_throttling(code))
    }

    /// The resource that IAM names.
    pub(super) fn resource(&self) -> Option<&str> {
        let Self::Denied(text) = self else { return None };
        text.split_once("on resource: ")?.1.split_whitespace().next()
    }
}

/// The error that led to all others.
fn innermost(error: &(dyn StdError + 'static)) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_resource_of_a_denial_is_read() {
        let denied = |text: &str| Refusal::Denied(text.into());
        let text = "User: u is not authorized to perform: ssm:StartSession on resource: arn:aws:ec2:r:1:instance/i-1 \
            because no identity-based policy allows the ssm:StartSession action";
        assert_eq!(denied(text).resource(), Some("arn:aws:ec2:r:1:instance/i-1"));
        assert_eq!(denied("no").resource(), None);
        assert_eq!(Refusal::Unreached("on resource: x".into()).resource(), None);
    }
}
