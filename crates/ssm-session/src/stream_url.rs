//! Where a data channel may lead.
//!
//! The token opens the session for whoever gets it, so a stream URL is judged before anything is sent: it leads to an
//! `ssmmessages` host of AWS, to this machine, or to where the user said.

use std::net::IpAddr;

use http::Uri;
use http::uri::{Authority, Parts, Scheme};

use crate::sign;

/// The service of the data channel, as host names and endpoint variables have it.
const SERVICE: &str = "ssmmessages";

/// The same, for hosts with FIPS 140 cryptography.
const FIPS_SERVICE: &str = "ssmmessages-fips";

/// Regions, by the start of their names, and the DNS suffixes of their plain and dual-stack hosts (agent
/// `common/identity/endpoint/endpoint.go`; dual stack as in botocore `partitions.json`).
const PARTITIONS: [Partition; 8] = [
    Partition {
        name: "aws-cn",
        prefix: "cn-",
        suffixes: ["amazonaws.com.cn", "api.amazonwebservices.com.cn"],
    },
    Partition { name: "aws-us-gov", prefix: "us-gov-", suffixes: ["amazonaws.com", "api.aws"] },
    Partition { name: "aws-iso-b", prefix: "us-isob-", suffixes: ["sc2s.sgov.gov", "api.aws.scloud"] },
    Partition { name: "aws-iso-f", prefix: "us-isof-", suffixes: ["csp.hci.ic.gov", "api.aws.hci.ic.gov"] },
    Partition { name: "aws-iso", prefix: "us-iso-", suffixes: ["c2s.ic.gov", "api.aws.ic.gov"] },
    Partition {
        name: "aws-iso-e",
        prefix: "eu-isoe-",
        suffixes: ["cloud.adc-e.uk", "api.cloud-aws.adc-e.uk"],
    },
    Partition { name: "aws-eusc", prefix: "eusc-", suffixes: ["amazonaws.eu", "api.amazonwebservices.eu"] },
    Partition { name: "aws", prefix: "", suffixes: ["amazonaws.com", "api.aws"] },
];

struct Partition {
    name: &'static str,
    prefix: &'static str,
    suffixes: [&'static str; 2],
}

/// Which hosts a data channel may lead to. By default those of AWS, in any region, and loopback addresses.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StreamHosts {
    /// The region sessions are started in: hosts of another partition are refused.
    pub region: Option<String>,
    /// Takes the place of the host that the service names, as a VPC endpoint does.
    pub endpoint: Option<StreamEndpoint>,
    /// Hosts that are trusted as those of AWS are, on any port: where an API endpoint of one's own is.
    pub trusted: Vec<String>,
    /// Whether the host of AWS with FIPS 140 cryptography takes the place of the one that the service names.
    pub fips: bool,
    /// Whether the host of AWS that has IPv6 takes the place of the one that the service names.
    pub dual_stack: bool,
}

/// Where an `ssmmessages` endpoint is: a host and, if it is not the usual one, a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamEndpoint {
    scheme: Scheme,
    authority: Authority,
}

/// What is wrong with an endpoint or a stream URL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StreamUrlError {
    /// It cannot be read as a URL.
    #[error("it is no URL")]
    Syntax,
    /// There is nowhere to connect to.
    #[error("it has no host")]
    NoHost,
    /// A name or password in front of the host makes one host look like another.
    #[error("it has a user name in front of its host")]
    UserInfo,
    /// Not what data channels use.
    #[error("its scheme is not wss")]
    Scheme,
    /// The token and all data would be readable on the way.
    #[error("ws:// is for loopback addresses only")]
    Plain,
    /// The endpoint has more than scheme, host and port.
    #[error("an endpoint has no path")]
    Path,
    /// The service named a host that is not its own. Nothing was sent there.
    #[error(
        "{host} is no ssmmessages host of {place}, so the session token was not sent to it; \
         if it is yours, set AWS_ENDPOINT_URL_SSMMESSAGES to https://{host}"
    )]
    Host {
        /// The host, with its port if it has one.
        host: String,
        /// Whose host it should be.
        place: String,
    },
}

/// A stream URL that may be used: what is requested, and where.
#[derive(Debug, Clone)]
pub(crate) struct StreamUrl {
    /// What the request says, with the host that is signed.
    pub(crate) uri: Uri,
    /// Where to connect.
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) secure: bool,
}

impl StreamHosts {
    /// Trusts the host of an API endpoint, too: a service of one's own may have its data channels there. Text that is no URL
    /// changes nothing.
    #[must_use]
    pub fn trusting(mut self, api_url: &str) -> Self {
        if let Some(host) = api_url.parse().ok().and_then(|uri: Uri| Place::host(&uri)) {
            self.trusted.push(host);
        }
        self
    }

    /// Where the data channels of the region lead unless the service says otherwise: `https://HOST[:PORT]`. `None` without a
    /// region, and for a service of one's own.
    pub fn usual_url(&self) -> Option<String> {
        if let Some(StreamEndpoint { scheme, authority }) = &self.endpoint {
            let scheme = if scheme.as_str() == "ws" { "http" } else { "https" };
            return Some(format!("{scheme}://{authority}"));
        }
        let region = self.region.as_deref().filter(|_| self.trusted.is_empty())?;
        let suffix = partition_of_region(region).suffixes[usize::from(self.dual_stack)];
        let service = if self.fips { FIPS_SERVICE } else { SERVICE };
        Some(format!("https://{service}.{region}.{suffix}"))
    }

    /// Judges a stream URL and puts the endpoint in its place.
    pub(crate) fn resolve(&self, url: &str) -> Result<StreamUrl, StreamUrlError> {
        let uri: Uri = url.parse().map_err(|_| StreamUrlError::Syntax)?;
        let place = Place::of(&uri)?;
        if let Some(endpoint) = &self.endpoint {
            return Ok(endpoint.replace(uri));
        }
        if !is_loopback(&place.host) && !self.is_trusted(&place) {
            let host = uri.authority().map(ToString::to_string).unwrap_or_default();
            return Err(StreamUrlError::Host { host, place: self.place() });
        }
        match self.variant(&place.host) {
            Some(endpoint) => Ok(endpoint.replace(uri)),
            None => Ok(StreamUrl { host: place.host, port: place.port, secure: place.secure, uri }),
        }
    }

    /// Judges a stream URL for a fuzz target: host, port, and whether TLS is used.
    ///
    /// # Errors
    ///
    /// When it may not be used.
    #[cfg(fuzzing)]
    pub fn judge(&self, url: &str) -> Result<(String, u16, bool), StreamUrlError> {
        self.resolve(url).map(|url| (url.host, url.port, url.secure))
    }

    /// The host that is wanted in place of this one of AWS, if it is another one.
    fn variant(&self, host: &str) -> Option<StreamEndpoint> {
        let partition = partition_of_host(host)?;
        let host = host.to_ascii_lowercase();
        let (service, rest) = host.split_once('.')?;
        let (region, suffix) = rest.split_once('.')?;
        let service = if self.fips { FIPS_SERVICE } else { service };
        let suffix = if self.dual_stack { partition.suffixes[1] } else { suffix };
        let wanted = format!("{service}.{region}.{suffix}");
        let endpoint = |wanted: String| StreamEndpoint::parse(&format!("https://{wanted}")).ok();
        (wanted != host).then_some(wanted).and_then(endpoint)
    }

    fn is_trusted(&self, place: &Place) -> bool {
        if self.trusted.iter().any(|trusted| trusted.eq_ignore_ascii_case(&place.host)) {
            return true;
        }
        let Some(partition) = partition_of_host(&place.host) else { return false };
        let wanted = self.region.as_deref().map(partition_of_region);
        place.port == 443 && wanted.is_none_or(|wanted| wanted.name == partition.name)
    }

    fn place(&self) -> String {
        match &self.region {
            Some(region) => format!("{region} (partition {})", partition_of_region(region).name),
            None => "AWS".into(),
        }
    }
}

impl StreamEndpoint {
    /// Reads `https://HOST[:PORT]`, or the same with `wss`; `http` and `ws` for loopback addresses.
    ///
    /// # Errors
    ///
    /// When it is something else.
    pub fn parse(url: &str) -> Result<Self, StreamUrlError> {
        let uri: Uri = url.trim().parse().map_err(|_| StreamUrlError::Syntax)?;
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
            return Err(StreamUrlError::Path);
        }
        let mut parts = uri.into_parts();
        let scheme = match parts.scheme.as_ref().map(Scheme::as_str) {
            Some("https") => "wss",
            Some("http") => "ws",
            Some(other) => other,
            None => return Err(StreamUrlError::Scheme),
        };
        parts.scheme = Some(scheme.parse().map_err(|_| StreamUrlError::Scheme)?);
        parts.path_and_query.get_or_insert_with(|| "/".parse().expect("a slash is a path"));
        let uri = Uri::from_parts(parts).map_err(|_| StreamUrlError::Syntax)?;
        Place::of(&uri)?;
        match uri.into_parts() {
            Parts { scheme: Some(scheme), authority: Some(authority), .. } => Ok(Self { scheme, authority }),
            _ => Err(StreamUrlError::NoHost),
        }
    }

    /// `uri` at this endpoint. The host of a URL that carries its own signature is part of what is signed, and stays.
    fn replace(&self, uri: Uri) -> StreamUrl {
        let mut parts = uri.clone().into_parts();
        parts.scheme = Some(self.scheme.clone());
        parts.authority = Some(self.authority.clone());
        let moved = Uri::from_parts(parts).expect("another host leaves a URL a URL");
        let place = Place::of(&moved).expect("an endpoint can be used");
        let uri = if sign::is_presigned(&uri) { uri } else { moved };
        StreamUrl { uri, host: place.host, port: place.port, secure: place.secure }
    }
}

struct Place {
    host: String,
    port: u16,
    secure: bool,
}

impl Place {
    fn host(uri: &Uri) -> Option<String> {
        let host = uri.host()?.trim_start_matches('[').trim_end_matches(']');
        (!host.is_empty()).then(|| host.to_owned())
    }

    fn of(uri: &Uri) -> Result<Self, StreamUrlError> {
        let authority = uri.authority().ok_or(StreamUrlError::NoHost)?;
        if authority.as_str().contains('@') {
            return Err(StreamUrlError::UserInfo);
        }
        let host = Self::host(uri).ok_or(StreamUrlError::NoHost)?;
        let (secure, port) = match uri.scheme_str() {
            Some("wss") => (true, 443),
            Some("ws") if is_loopback(&host) => (false, 80),
            Some("ws") => return Err(StreamUrlError::Plain),
            _ => return Err(StreamUrlError::Scheme),
        };
        // `Uri` takes more than a port behind an address in brackets, and a port that is not a number for none.
        let port = match (authority.as_str().strip_prefix(authority.host()), authority.port_u16()) {
            (Some(""), _) => port,
            (Some(behind), Some(port)) if behind.starts_with(':') => port,
            _ => return Err(StreamUrlError::Syntax),
        };
        Ok(Self { host, port, secure })
    }
}

/// Whether the host is this machine, by name or by address.
pub(crate) fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost") || host.parse().is_ok_and(|address: IpAddr| address.is_loopback())
}

/// The partition of an AWS host `SERVICE.REGION.SUFFIX`, if it is one.
fn partition_of_host(host: &str) -> Option<&'static Partition> {
    let host = host.to_ascii_lowercase();
    let (service, rest) = host.split_once('.')?;
    let (region, suffix) = rest.split_once('.')?;
    let partition = partition_of_region(region);
    let known = matches!(service, SERVICE | FIPS_SERVICE) && is_region(region);
    (known && partition.suffixes.contains(&suffix)).then_some(partition)
}

fn partition_of_region(region: &str) -> &'static Partition {
    let of = |partition: &&Partition| region.starts_with(partition.prefix);
    PARTITIONS.iter().find(of).expect("the last partition takes every region")
}

/// Whether it is written like a region: words, a number, and dashes between them.
fn is_region(text: &str) -> bool {
    let Some((words, number)) = text.rsplit_once('-') else { return false };
    let is_word = |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase());
    words.contains('-')
        && words.split('-').all(is_word)
        && (1..=2).contains(&number.len())
        && number.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests;
