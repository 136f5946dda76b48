//! What the calls of several services have in common.

use std::error::Error as StdError;

use aws_sdk_rds::error::{ProvideErrorMetadata, SdkError};
use ssm_session::{ControlError, DialError, causes};

use crate::error::Error;

/// Most things of one kind that are read of an account.
pub(super) const READ_MAX: usize = 10_000;

/// Why a call failed, and what to do about it.
pub(super) fn explain<E>(action: &str, error: &SdkError<E>) -> Error
where
    E: ProvideErrorMetadata + StdError + 'static,
{
    Error::Database(words(action, error))
}

fn words<E>(action: &str, error: &SdkError<E>) -> String
where
    E: ProvideErrorMetadata + StdError + 'static,
{
    // Credentials say themselves what is wrong with them, and so does the network.
    if let Some(error) = find::<ControlError>(error) {
        return error.to_string();
    }
    if let Some(error) = find::<DialError>(error) {
        return format!("{action} was not reached: {error}");
    }
    let (code, text) = (error.code().unwrap_or_default(), error.message().unwrap_or_default());
    match code {
        "AccessDenied" | "AccessDeniedException" | "UnauthorizedOperation" => {
            format!("denied: your permissions do not allow {action} ({text})")
        }
        "ExpiredToken" | "ExpiredTokenException" | "RequestExpired" => {
            format!("the AWS credentials have expired: renew them ({text})")
        }
        "Throttling" | "ThrottlingException" | "RequestLimitExceeded" => {
            format!("{action} is throttled; try again later ({text})")
        }
        "" => {
            let status = error.raw_response().map(|answer| format!("HTTP {}, ", answer.status().as_u16()));
            format!("{action} failed: {}{}", status.unwrap_or_default(), causes(error))
        }
        code => format!("{action} failed: {code} {text}"),
    }
}

/// The error of this type among an error's causes.
fn find<'a, E: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a E> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        next = error.source();
    }
    None
}
