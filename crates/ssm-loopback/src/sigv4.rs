//! Verification of AWS Signature Version 4 on API calls and WebSocket upgrades.
//!
//! The canonical request is rebuilt here from the request as it arrived; key derivation and the signature itself come
//! from `aws-sigv4`. The body's digest is always computed, never taken from a header, so an `UNSIGNED-PAYLOAD` request
//! does not verify.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use aws_sigv4::sign::v4::{calculate_signature, generate_signing_key};
use http::{HeaderMap, Method, Uri, header};
use sha2::{Digest as _, Sha256};
use ssm_proto::Secret;

use crate::{date, random};

/// How far a signature's date may be from this machine's clock, as at AWS.
const SKEW: Duration = Duration::from_secs(15 * 60);
/// Longest validity of a signature in the query, as at AWS.
const LONGEST_EXPIRES: u64 = 7 * 24 * 3600;
const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// The one key pair that this loopback accepts, made when it starts.
#[derive(Debug)]
pub(crate) struct KeyPair {
    pub(crate) access_key: String,
    pub(crate) secret_key: Secret<String>,
}

impl KeyPair {
    /// A pair of the usual shape: `AKIA` and 16 characters, and 40 characters.
    pub(crate) fn random() -> Self {
        Self {
            access_key: format!("AKIA{}", random::text(random::BASE32, 16)),
            secret_key: Secret::new(random::text(random::BASE64, 40)),
        }
    }
}

/// What a signature is checked against.
pub(crate) struct Verifier<'a> {
    pub(crate) keys: &'a KeyPair,
    pub(crate) region: &'a str,
    pub(crate) service: &'a str,
    pub(crate) now: SystemTime,
}

/// A request as it arrived.
pub(crate) struct SignedRequest<'a> {
    pub(crate) method: &'a Method,
    pub(crate) uri: &'a Uri,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) body: &'a [u8],
}

/// Why a request is not let in. The names are those of the AWS errors.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SignatureError {
    #[error("the request carries no SigV4 signature")]
    Missing,
    #[error("the signature is incomplete: {0}")]
    Incomplete(&'static str),
    #[error("the security token included in the request is invalid")]
    UnknownKey,
    #[error("{0}")]
    Invalid(&'static str),
}

impl SignatureError {
    /// The `__type` AWS answers with.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::Missing => "MissingAuthenticationTokenException",
            Self::Incomplete(_) => "IncompleteSignatureException",
            Self::UnknownKey => "UnrecognizedClientException",
            Self::Invalid(_) => "InvalidSignatureException",
        }
    }
}

impl SignedRequest<'_> {
    /// Whether any signature is present, in the headers or in the query.
    pub(crate) fn is_signed(&self) -> bool {
        self.headers.contains_key(header::AUTHORIZATION)
            || query_pairs(self.uri.query()).any(|(name, _)| name == "X-Amz-Signature")
    }
}

impl Verifier<'_> {
    /// Lets the request pass when its signature, in the `Authorization` header or in the query, is right.
    ///
    /// # Errors
    /// Says what is wrong in the terms of AWS; the message never holds the expected signature.
    pub(crate) fn verify(&self, request: &SignedRequest<'_>) -> Result<(), SignatureError> {
        let claim = Claim::from_request(request)?;
        self.check_scope(&claim)?;
        let signed_at = date::parse_basic(&claim.date).ok_or(SignatureError::Incomplete("X-Amz-Date"))?;
        self.check_date(signed_at, claim.expires)?;
        check_signed_headers(request, &claim)?;

        let expected = self.signature(request, &claim, signed_at)?;
        // Digests are compared, so the time taken says nothing about the signature.
        if Sha256::digest(expected.as_bytes()) == Sha256::digest(claim.signature.as_bytes()) {
            Ok(())
        } else {
            Err(SignatureError::Invalid(
                "the request signature does not match: check the secret access key and the signing method",
            ))
        }
    }

    /// The `X-Amz-Date` and `Authorization` headers that sign a request with the host as its only other header, as the
    /// loopback's own agent opens its data channels.
    pub(crate) fn authorization(&self, method: &Method, uri: &Uri) -> Result<HeaderMap, SignatureError> {
        let date = date::format_basic(self.now);
        let host = uri.authority().ok_or(SignatureError::Incomplete("host"))?.as_str();
        let value = |text: &str| {
            header::HeaderValue::from_str(text).map_err(|_| SignatureError::Incomplete("header"))
        };
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, value(host)?);
        headers.insert("x-amz-date", value(&date)?);
        let claim = Claim {
            day: date[..8].to_owned(),
            region: self.region.to_owned(),
            service: self.service.to_owned(),
            signed_headers: "host;x-amz-date".to_owned(),
            date,
            ..Claim::empty()
        };
        let request = SignedRequest { method, uri, headers: &headers, body: &[] };
        let signature = self.signature(&request, &claim, self.now)?;
        let authorization = format!(
            "{ALGORITHM} Credential={}/{}, SignedHeaders={}, Signature={signature}",
            self.keys.access_key,
            claim.scope(),
            claim.signed_headers
        );
        headers.insert(header::AUTHORIZATION, value(&authorization)?);
        headers.remove(header::HOST);
        Ok(headers)
    }

    fn signature(
        &self,
        request: &SignedRequest<'_>,
        claim: &Claim,
        signed_at: SystemTime,
    ) -> Result<String, SignatureError> {
        let canonical = canonical_request(request, claim)?;
        let mut to_sign = format!("{ALGORITHM}\n{}\n{}\n", claim.date, claim.scope());
        push_hex(&mut to_sign, &Sha256::digest(canonical.as_bytes()));
        let secret = self.keys.secret_key.expose();
        let key = generate_signing_key(secret, signed_at, self.region, self.service);
        Ok(calculate_signature(key, to_sign.as_bytes()))
    }

    fn check_scope(&self, claim: &Claim) -> Result<(), SignatureError> {
        if claim.access_key != self.keys.access_key {
            return Err(SignatureError::UnknownKey);
        }
        if claim.region != self.region {
            return Err(SignatureError::Invalid("the credential is scoped to another region"));
        }
        if claim.service != self.service {
            return Err(SignatureError::Invalid("the credential is scoped to another service"));
        }
        if claim.date.get(..8) != Some(&claim.day) {
            return Err(SignatureError::Invalid("the credential is scoped to another day than X-Amz-Date"));
        }
        Ok(())
    }

    fn check_date(&self, signed_at: SystemTime, expires: Option<Duration>) -> Result<(), SignatureError> {
        let past_limit = expires.unwrap_or(SKEW);
        let age = self.now.duration_since(signed_at);
        match age {
            Ok(age) if age > past_limit => Err(SignatureError::Invalid("the signature has expired")),
            Err(ahead) if ahead.duration() > SKEW => {
                Err(SignatureError::Invalid("the signature is not yet current: check the clock"))
            }
            _ => Ok(()),
        }
    }
}

/// Where the signature was found.
#[derive(PartialEq, Eq)]
enum Place {
    Header,
    Query,
}

/// What the request says about its own signature.
struct Claim {
    place: Place,
    access_key: String,
    day: String,
    region: String,
    service: String,
    date: String,
    expires: Option<Duration>,
    signed_headers: String,
    signature: String,
}

impl Claim {
    fn from_request(request: &SignedRequest<'_>) -> Result<Self, SignatureError> {
        match request.headers.get(header::AUTHORIZATION) {
            Some(value) => {
                let value = value.to_str().map_err(|_| SignatureError::Incomplete("Authorization"))?;
                Self::from_header(value, request.headers)
            }
            None => Self::from_query(request.uri.query()),
        }
    }

    fn from_header(authorization: &str, headers: &HeaderMap) -> Result<Self, SignatureError> {
        let fields = authorization.strip_prefix(ALGORITHM).ok_or(SignatureError::Incomplete("algorithm"))?;
        let fields: BTreeMap<&str, &str> =
            fields.split(',').filter_map(|field| field.trim().split_once('=')).collect();
        let field = |name| fields.get(name).copied().ok_or(SignatureError::Incomplete(name));
        let date = headers.get("x-amz-date").and_then(|value| value.to_str().ok());
        Self {
            place: Place::Header,
            date: date.ok_or(SignatureError::Incomplete("X-Amz-Date"))?.to_owned(),
            expires: None,
            signed_headers: field("SignedHeaders")?.to_owned(),
            signature: field("Signature")?.to_owned(),
            ..Self::empty()
        }
        .with_credential(field("Credential")?)
    }

    fn from_query(query: Option<&str>) -> Result<Self, SignatureError> {
        let pairs: BTreeMap<String, String> = query_pairs(query).collect();
        let field = |name: &'static str| pairs.get(name).cloned().ok_or(SignatureError::Incomplete(name));
        if !pairs.contains_key("X-Amz-Signature") {
            return Err(SignatureError::Missing);
        }
        if field("X-Amz-Algorithm")? != ALGORITHM {
            return Err(SignatureError::Incomplete("algorithm"));
        }
        let expires: u64 =
            field("X-Amz-Expires")?.parse().map_err(|_| SignatureError::Incomplete("X-Amz-Expires"))?;
        Self {
            place: Place::Query,
            date: field("X-Amz-Date")?,
            expires: Some(Duration::from_secs(expires.min(LONGEST_EXPIRES))),
            signed_headers: field("X-Amz-SignedHeaders")?,
            signature: field("X-Amz-Signature")?,
            ..Self::empty()
        }
        .with_credential(&field("X-Amz-Credential")?)
    }

    fn empty() -> Self {
        Self {
            place: Place::Header,
            access_key: String::new(),
            day: String::new(),
            region: String::new(),
            service: String::new(),
            date: String::new(),
            expires: None,
            signed_headers: String::new(),
            signature: String::new(),
        }
    }

    /// `KEY/20261122/us-east-1/ssm/aws4_request`
    fn with_credential(mut self, credential: &str) -> Result<Self, SignatureError> {
        let parts: Vec<&str> = credential.split('/').collect();
        let [key, day, region, service, "aws4_request"] = parts[..] else {
            return Err(SignatureError::Incomplete("Credential"));
        };
        self.access_key = key.to_owned();
        self.day = day.to_owned();
        self.region = region.to_owned();
        self.service = service.to_owned();
        Ok(self)
    }

    fn scope(&self) -> String {
        format!("{}/{}/{}/aws4_request", self.day, self.region, self.service)
    }
}

/// The host and every `x-amz-*` header must be under the signature, or the call could be turned into another one.
fn check_signed_headers(request: &SignedRequest<'_>, claim: &Claim) -> Result<(), SignatureError> {
    let signed: Vec<&str> = claim.signed_headers.split(';').collect();
    let must = |name: &str| name == "host" || name.starts_with("x-amz-");
    let unsigned = |name: &&str| must(name) && !signed.contains(name);
    match request.headers.keys().map(header::HeaderName::as_str).find(unsigned) {
        Some(_) => Err(SignatureError::Invalid("the Host or an X-Amz header is not signed")),
        None if !signed.contains(&"host") => Err(SignatureError::Invalid("the Host header is not signed")),
        None => Ok(()),
    }
}

fn canonical_request(request: &SignedRequest<'_>, claim: &Claim) -> Result<String, SignatureError> {
    let mut out = format!(
        "{}\n{}\n{}\n",
        request.method,
        canonical_path(request.uri.path()),
        canonical_query(request.uri.query(), &claim.place),
    );
    for name in claim.signed_headers.split(';') {
        let values: Vec<String> = request
            .headers
            .get_all(name)
            .iter()
            .map(|value| collapse_spaces(&String::from_utf8_lossy(value.as_bytes())))
            .collect();
        if values.is_empty() {
            return Err(SignatureError::Invalid("a signed header is missing from the request"));
        }
        let _ = writeln!(out, "{name}:{}", values.join(","));
    }
    let _ = write!(out, "\n{}\n", claim.signed_headers);
    push_hex(&mut out, &Sha256::digest(request.body));
    Ok(out)
}

/// The path with every segment encoded once more, as all services but S3 want it, and dot segments resolved.
fn canonical_path(path: &str) -> String {
    let mut segments: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => drop(segments.pop()),
            _ => segments.push(segment),
        }
    }
    let mut out = String::from("/");
    for (index, segment) in segments.iter().enumerate() {
        if index > 0 {
            out.push('/');
        }
        percent_encode(&mut out, segment.as_bytes());
    }
    if path.len() > 1 && path.ends_with('/') && !segments.is_empty() {
        out.push('/');
    }
    out
}

/// Parameters encoded anew and sorted by name, then value; repeated names stay.
fn canonical_query(query: Option<&str>, place: &Place) -> String {
    let mut pairs: Vec<(String, String)> = query_pairs(query)
        .filter(|(name, _)| *place == Place::Header || name != "X-Amz-Signature")
        .map(|(name, value)| (percent_encoded(&name), percent_encoded(&value)))
        .collect();
    pairs.sort();
    let pairs: Vec<String> = pairs.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
    pairs.join("&")
}

/// The decoded name and value of every query parameter. A `+` is a plus sign, as SigV4 reads it.
pub(crate) fn query_pairs(query: Option<&str>) -> impl Iterator<Item = (String, String)> {
    query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (percent_decoded(name), percent_decoded(value))
    })
}

fn percent_decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let digit = |offset: usize| bytes.get(at + offset).and_then(|&byte| char::from(byte).to_digit(16));
        if let (b'%', Some(high), Some(low)) = (bytes[at], digit(1), digit(2)) {
            out.push((high * 16 + low) as u8);
            at += 3;
        } else {
            out.push(bytes[at]);
            at += 1;
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn percent_encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    percent_encode(&mut out, text.as_bytes());
    out
}

fn percent_encode(out: &mut String, bytes: &[u8]) {
    for &byte in bytes {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            _ => {
                let _ = write!(out, "%{byte:02X}");
            }
        }
    }
}

fn collapse_spaces(value: &str) -> String {
    value.split_ascii_whitespace().collect::<Vec<_>>().join(" ")
}

fn push_hex(out: &mut String, bytes: &[u8]) {
    for byte in bytes {
        let _ = write!(out, "{byte:02x}");
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use aws_credential_types::Credentials;
    use aws_sigv4::http_request::{SignableBody, SignableRequest, SignatureLocation, SigningSettings, sign};
    use aws_sigv4::sign::v4::SigningParams;
    use aws_smithy_runtime_api::client::identity::Identity;
    use http::Request;

    use super::*;

    const BODY: &[u8] = br#"{"Target":"i-0123456789abcdef0"}"#;

    #[test]
    fn a_request_signed_by_the_sdk_verifies() {
        let keys = keys();
        let request = sdk_signed(&keys, api_call(), BODY, SigningSettings::default(), None);
        assert_eq!(verify(&keys, &request, BODY), Ok(()));
    }

    #[test]
    fn temporary_credentials_verify_with_their_session_token() {
        let keys = keys();
        let request = sdk_signed(&keys, api_call(), BODY, SigningSettings::default(), Some("session-token"));
        assert!(request.headers().contains_key("x-amz-security-token"));
        assert_eq!(verify(&keys, &request, BODY), Ok(()));
    }

    #[test]
    fn a_presigned_url_verifies_until_it_expires() {
        let keys = keys();
        let mut settings = SigningSettings::default();
        settings.signature_location = SignatureLocation::QueryParams;
        settings.expires_in = Some(Duration::from_secs(3600));
        let request =
            sdk_signed(&keys, upgrade("/v1/data-channel/u-1?role=publish_subscribe"), b"", settings, None);
        assert!(!request.headers().contains_key(header::AUTHORIZATION));
        assert_eq!(verify_at(&keys, &request, b"", signing_time() + Duration::from_secs(3600)), Ok(()));
        let late = verify_at(&keys, &request, b"", signing_time() + Duration::from_secs(3601));
        assert_eq!(late, Err(SignatureError::Invalid("the signature has expired")));
    }

    #[test]
    fn queries_are_sorted_and_encoded_as_the_sdk_does() {
        let keys = keys();
        for path in [
            "/v1/data-channel/u-1?role=publish_subscribe&cell-number=AAEAAQ%3D%3D",
            "/?b=2&a=1&a=0&a=&c",
            "/?a=%2F%20~-_.&A=%C3%A9&a-b=%3D",
            "/a%20b/%E1%88%B4/c:d@e,f",
            "/a/./b/../c//d/",
        ] {
            let request = sdk_signed(&keys, upgrade(path), b"", SigningSettings::default(), None);
            assert_eq!(verify(&keys, &request, b""), Ok(()), "{path}");
        }
    }

    #[test]
    fn the_loopbacks_own_upgrade_signature_verifies() {
        let keys = keys();
        let mut request = upgrade("/v1/data-channel/u-1?role=publish_subscribe&cell-number=AAEAAQ%3D%3D");
        let headers = verifier(&keys, signing_time()).authorization(request.method(), request.uri()).unwrap();
        request.headers_mut().extend(headers);
        assert_eq!(verify(&keys, &request, b""), Ok(()));
    }

    #[test]
    fn any_change_breaks_the_signature() {
        let keys = keys();
        let signed = || sdk_signed(&keys, api_call(), BODY, SigningSettings::default(), None);
        let mismatch = |request: &Request<()>, body: &[u8]| {
            matches!(verify(&keys, request, body), Err(SignatureError::Invalid(_)))
        };
        assert!(mismatch(&signed(), br#"{"Target":"i-0123456789abcdef1"}"#));
        let mut request = signed();
        request.headers_mut().insert("x-amz-target", "AmazonSSM.TerminateSession".parse().unwrap());
        assert!(mismatch(&request, BODY));
        let mut request = signed();
        *request.uri_mut() = "http://127.0.0.1:1/?x=y".parse().unwrap();
        assert!(mismatch(&request, BODY));
        let mut request = signed();
        request.headers_mut().insert("x-amz-extra", "unsigned".parse().unwrap());
        assert!(mismatch(&request, BODY));
    }

    #[test]
    fn strangers_are_told_apart() {
        let (mine, other) = (keys(), keys());
        let request = sdk_signed(&other, api_call(), BODY, SigningSettings::default(), None);
        assert_eq!(verify(&mine, &request, BODY), Err(SignatureError::UnknownKey));
        let forged = KeyPair { access_key: mine.access_key.clone(), ..other };
        let request = sdk_signed(&forged, api_call(), BODY, SigningSettings::default(), None);
        assert!(matches!(verify(&mine, &request, BODY), Err(SignatureError::Invalid(_))));
        assert_eq!(verify(&mine, &api_call(), BODY), Err(SignatureError::Missing));
    }

    #[test]
    fn the_date_may_be_fifteen_minutes_off() {
        let keys = keys();
        let request = sdk_signed(&keys, api_call(), BODY, SigningSettings::default(), None);
        for (offset, accepted) in [(899, true), (901, false)] {
            let offset = Duration::from_secs(offset);
            assert_eq!(verify_at(&keys, &request, BODY, signing_time() + offset).is_ok(), accepted);
            assert_eq!(verify_at(&keys, &request, BODY, signing_time() - offset).is_ok(), accepted);
        }
    }

    #[test]
    fn a_signature_for_another_service_or_region_is_refused() {
        let keys = keys();
        let request = sdk_signed(&keys, api_call(), BODY, SigningSettings::default(), None);
        let verifier = verifier(&keys, signing_time());
        let signed = SignedRequest {
            method: request.method(),
            uri: request.uri(),
            headers: request.headers(),
            body: BODY,
        };
        let refused =
            |verifier: Verifier<'_>| matches!(verifier.verify(&signed), Err(SignatureError::Invalid(_)));
        assert!(refused(Verifier { service: "ssmmessages", ..verifier }));
        assert!(refused(Verifier { region: "eu-west-1", keys: &keys, service: "ssm", now: signing_time() }));
    }

    #[test]
    fn malformed_authorization_is_incomplete() {
        let keys = keys();
        for value in [
            "Bearer x",
            "AWS4-HMAC-SHA256",
            "AWS4-HMAC-SHA256 Credential=a/b, SignedHeaders=host, Signature=0",
        ] {
            let mut request = api_call();
            request.headers_mut().insert(header::AUTHORIZATION, value.parse().unwrap());
            request.headers_mut().insert("x-amz-date", "20261122T101112Z".parse().unwrap());
            let result = verify(&keys, &request, BODY);
            assert!(matches!(result, Err(SignatureError::Incomplete(_))), "{value}: {result:?}");
        }
    }

    /// The canonical request of the AWS test suite's `get-vanilla-query-order-key-case`, which is published with its
    /// signature.
    #[test]
    fn item_15_the_aws_test_suite_signature_is_reproduced() {
        let keys = KeyPair {
            access_key: "AKIDEXAMPLE".to_owned(),
            secret_key: Secret::new("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".to_owned()),
        };
        let request = Request::get("/?Param2=value2&Param1=value1")
            .header("host", "example.amazonaws.com")
            .header("x-amz-date", "20150830T123600Z")
            .header(
                "authorization",
                "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, \
                 SignedHeaders=host;x-amz-date, \
                 Signature=b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
            )
            .body(())
            .unwrap();
        let signed = SignedRequest {
            method: request.method(),
            uri: request.uri(),
            headers: request.headers(),
            body: b"",
        };
        let now = date::parse_basic("20150830T123600Z").unwrap();
        let verifier = Verifier { keys: &keys, region: "us-east-1", service: "service", now };
        assert_eq!(verifier.verify(&signed), Ok(()));
    }

    #[test]
    fn percent_escapes_that_are_none_stay() {
        assert_eq!(percent_decoded("%41%4z%+1%"), "A%4z%+1%");
    }

    fn keys() -> KeyPair {
        KeyPair::random()
    }

    fn signing_time() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_795_000_000)
    }

    fn api_call() -> Request<()> {
        Request::post("http://127.0.0.1:4566/")
            .header("host", "127.0.0.1:4566")
            .header("content-type", "application/x-amz-json-1.1")
            .header("x-amz-target", "AmazonSSM.StartSession")
            .header("user-agent", "a   b")
            .body(())
            .unwrap()
    }

    fn upgrade(path: &str) -> Request<()> {
        let uri = format!("http://127.0.0.1:4566{path}");
        Request::get(uri).header("host", "127.0.0.1:4566").body(()).unwrap()
    }

    fn sdk_signed(
        keys: &KeyPair,
        mut request: Request<()>,
        body: &[u8],
        settings: SigningSettings,
        session_token: Option<&str>,
    ) -> Request<()> {
        let secret = keys.secret_key.expose().as_str();
        let token = session_token.map(str::to_owned);
        let identity: Identity = Credentials::new(&keys.access_key, secret, token, None, "test").into();
        let params = SigningParams::builder()
            .identity(&identity)
            .region("us-east-1")
            .name(service_of(&request))
            .time(signing_time())
            .settings(settings)
            .build()
            .unwrap()
            .into();
        let uri = request.uri().to_string();
        let headers: Vec<(String, String)> = request
            .headers()
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
            .collect();
        let headers = headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let signable =
            SignableRequest::new(request.method().as_str(), uri, headers, SignableBody::Bytes(body)).unwrap();
        let (instructions, _) = sign(signable, &params).unwrap().into_parts();
        instructions.apply_to_request_http1x(&mut request);
        request
    }

    fn service_of(request: &Request<()>) -> &'static str {
        if request.method() == Method::POST { "ssm" } else { "ssmmessages" }
    }

    fn verifier(keys: &KeyPair, now: SystemTime) -> Verifier<'_> {
        Verifier { keys, region: "us-east-1", service: "ssmmessages", now }
    }

    fn verify(keys: &KeyPair, request: &Request<()>, body: &[u8]) -> Result<(), SignatureError> {
        verify_at(keys, request, body, signing_time())
    }

    fn verify_at(
        keys: &KeyPair,
        request: &Request<()>,
        body: &[u8],
        now: SystemTime,
    ) -> Result<(), SignatureError> {
        let verifier = Verifier { service: service_of(request), ..verifier(keys, now) };
        let uri = request.uri().path_and_query().unwrap().as_str().parse().unwrap();
        verifier.verify(&SignedRequest {
            method: request.method(),
            uri: &uri,
            headers: request.headers(),
            body,
        })
    }
}
