//! SigV4 of the WebSocket upgrade.

use std::fmt;
use std::time::SystemTime;

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{
    PayloadChecksumKind, SessionTokenMode, SignableBody, SignableRequest, SigningSettings,
    UriPathNormalizationMode, sign,
};
use aws_sigv4::sign::v4;
use http::{HeaderMap, HeaderName, HeaderValue, Uri};

/// The service name in the signature (plugin `websocketchannel.go`, releases from 1.2.764).
const SERVICE: &str = "ssmmessages";

/// Query parameters that show a URL to be signed already.
const SIGNED_QUERY: [&str; 7] = [
    "X-Amz-Algorithm",
    "X-Amz-Credential",
    "X-Amz-Date",
    "X-Amz-Expires",
    "X-Amz-SignedHeaders",
    "X-Amz-Signature",
    "X-Amz-Security-Token",
];

/// Whether upgrades are signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum UpgradeSigning {
    /// Where the control plane has an identity and the URL is not signed already.
    #[default]
    Auto,
    /// Never.
    Off,
}

/// Credentials and the region they sign for.
#[derive(Clone)]
pub struct Identity {
    credentials: Credentials,
    region: String,
}

impl Identity {
    /// Signs with `credentials` for `region`.
    pub fn new(credentials: Credentials, region: impl Into<String>) -> Self {
        Self { credentials, region: region.into() }
    }

    /// The headers that sign a GET of `url` with no other header than `host`.
    pub(crate) fn sign(&self, url: &Uri, host: &str, time: SystemTime) -> Option<HeaderMap> {
        let identity = self.credentials.clone().into();
        let mut settings = SigningSettings::default();
        settings.payload_checksum_kind = PayloadChecksumKind::NoHeader;
        settings.session_token_mode = SessionTokenMode::Include;
        settings.uri_path_normalization_mode = UriPathNormalizationMode::Enabled;
        let params = v4::SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name(SERVICE)
            .time(time)
            .settings(settings)
            .build()
            .ok()?
            .into();
        let url = url.to_string();
        let headers = [("host", host)];
        let request = SignableRequest::new("GET", url, headers.into_iter(), SignableBody::Bytes(&[])).ok()?;
        let (instructions, _signature) = sign(request, &params).ok()?.into_parts();
        let mut signed = HeaderMap::new();
        for (name, value) in instructions.headers() {
            let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
            let mut value = HeaderValue::from_str(value).ok()?;
            value.set_sensitive(true);
            signed.insert(name, value);
        }
        Some(signed)
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("region", &self.region).finish_non_exhaustive()
    }
}

/// Whether the URL carries its own signature.
pub(crate) fn is_presigned(url: &Uri) -> bool {
    let names =
        url.query().unwrap_or_default().split('&').map(|pair| pair.split('=').next().unwrap_or_default());
    names.into_iter().any(|name| SIGNED_QUERY.contains(&name))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    /// The signature was computed by the steps of the SigV4 documentation, with Python's `hmac`.
    #[test]
    fn item_15_the_signature_covers_host_date_token_and_query() {
        let credentials = Credentials::new(
            "AKIDEXAMPLE",
            "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
            Some("token".into()),
            None,
            "test",
        );
        let identity = Identity::new(credentials, "us-east-1");
        let url: Uri = "wss://ssmmessages.us-east-1.amazonaws.com/v1/data-channel/me-0123?role=publish_subscribe&cell-number=AAEAAZ%2B%3D"
            .parse()
            .unwrap();
        let time = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let headers = identity.sign(&url, "ssmmessages.us-east-1.amazonaws.com", time).unwrap();
        assert_eq!(headers["x-amz-date"], "20231114T221320Z");
        assert_eq!(headers["x-amz-security-token"], "token");
        let authorization = headers["authorization"].to_str().unwrap();
        assert_eq!(
            authorization,
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20231114/us-east-1/ssmmessages/aws4_request, \
             SignedHeaders=host;x-amz-date;x-amz-security-token, \
             Signature=2e732d5960426c414ec72a308cd217a81383bc817a2de97d4a127582b8f783d9"
        );
    }

    #[test]
    fn item_15_a_url_with_a_signature_is_recognised() {
        let presigned = "wss://h/v1/data-channel/s?role=x&X-Amz-Signature=00".parse().unwrap();
        let plain = "wss://h/v1/data-channel/s?role=x&cell-number=X-Amz-Signature".parse().unwrap();
        assert!(is_presigned(&presigned));
        assert!(!is_presigned(&plain));
    }

    #[test]
    fn debug_output_hides_the_credentials() {
        let identity = Identity::new(Credentials::new("AKID", "hush", None, None, "test"), "r");
        assert!(!format!("{identity:?}").contains("hush"));
    }
}
