//! The way out that flags and environment describe.

use std::env;

use ssm_session::{Network, NetworkOptions, Route, Secret, StreamEndpoint, StreamHosts};

use crate::args::{ConnectionArgs, ProxyArg};
use crate::error::Error;

/// Where data channels lead, as AWS names such variables: by the service.
const STREAM_ENDPOINT_VARIABLE: &str = "AWS_ENDPOINT_URL_SSMMESSAGES";

const FIPS_VARIABLE: &str = "AWS_USE_FIPS_ENDPOINT";
const DUAL_STACK_VARIABLE: &str = "AWS_USE_DUALSTACK_ENDPOINT";

/// Proxies and certificates: flags before the environment.
pub(crate) fn options(connection: &ConnectionArgs) -> Result<NetworkOptions, Error> {
    let mut options = NetworkOptions::from_env();
    if connection.ca_bundle.is_some() {
        options.ca_bundle.clone_from(&connection.ca_bundle);
    }
    if let Some(proxy) = &connection.proxy {
        (options.https_proxy, options.http_proxy) = (None, None);
        let proxy = proxy.parse().map_err(|error| Error::Usage(format!("--proxy: {error}")))?;
        options.all_proxy = match proxy {
            ProxyArg::Url(url) => Some(Secret::new(url)),
            ProxyArg::Off => None,
        };
    }
    if connection.no_proxy.is_some() {
        options.no_proxy.clone_from(&connection.no_proxy);
    }
    Ok(options)
}

/// The way out that these describe.
pub(crate) fn network_of(options: &NetworkOptions) -> Result<Network, Error> {
    Network::new(options).map_err(|error| Error::Usage(error.to_string()))
}

/// The way out that flags and environment describe.
pub(crate) fn network(connection: &ConnectionArgs) -> Result<Network, Error> {
    network_of(&options(connection)?)
}

/// Where data channels lead: a flag before the environment.
pub(crate) fn stream_endpoint(connection: &ConnectionArgs) -> Result<Option<StreamEndpoint>, Error> {
    let (name, url) = match &connection.ssmmessages_endpoint_url {
        Some(url) => ("--ssmmessages-endpoint-url", url.clone()),
        None => match env::var(STREAM_ENDPOINT_VARIABLE) {
            Ok(url) if !url.is_empty() => (STREAM_ENDPOINT_VARIABLE, url),
            _ => return Ok(None),
        },
    };
    let endpoint = StreamEndpoint::parse(&url);
    endpoint.map(Some).map_err(|error| Error::Usage(format!("{name} cannot be used: {error}")))
}

/// The way to the data channel of a session that was started elsewhere.
pub(crate) fn route(connection: &ConnectionArgs) -> Result<Route, Error> {
    let streams = StreamHosts {
        endpoint: stream_endpoint(connection)?,
        fips: connection.fips.unwrap_or_else(|| is_wanted(FIPS_VARIABLE)),
        dual_stack: connection.dual_stack.unwrap_or_else(|| is_wanted(DUAL_STACK_VARIABLE)),
        ..StreamHosts::default()
    };
    Ok(Route { network: network(connection)?, streams })
}

/// Whether a variable of AWS says so. Where there is an account, the SDK reads it.
fn is_wanted(variable: &str) -> bool {
    env::var(variable).is_ok_and(|value| value.eq_ignore_ascii_case("true"))
}
