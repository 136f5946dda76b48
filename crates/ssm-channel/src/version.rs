//! Version gates: what a peer can do, by the version it claims.

use std::cmp::Ordering;

use ssm_proto::body::PortProperties;

use crate::PortMode;

/// The value of a document's `type` property that asks for port forwarding (agent `config.go` `LocalPortForwarding`).
const LOCAL_PORT_FORWARDING: &str = "LocalPortForwarding";

/// Agents above this one multiplex.
const MUX_ABOVE: &str = "3.0.196.0";

/// Agents up to this one expect keep-alives.
const KEEP_ALIVE_UP_TO: &str = "3.1.1511.0";

/// What an agent can do, by the version it says it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AgentAbilities {
    /// Carries several connections at a time in a port session: above 3.0.196.0 (plugin `config.go`
    /// `TCPMultiplexingSupportedAfterThisAgentVersion`).
    pub multiplexes: bool,
    /// Expects keep-alives of clients in such a session, which the service counts as traffic, so that it never ends for being
    /// idle: up to 3.1.1511.0 (plugin `config.go` `TCPMultiplexingWithSmuxKeepAliveDisabledAfterThisAgentVersion`).
    pub expects_keep_alives: bool,
    /// Heeds the flag that ends a port session: above 2.3.722.0 (plugin `config.go`
    /// `TerminateSessionFlagSupportedAfterThisAgentVersion`).
    pub heeds_terminate_flag: bool,
    /// Leads to other hosts: from 3.1.1374.0 (AWS documentation, `AWS-StartPortForwardingSessionToRemoteHost`).
    pub reaches_hosts: bool,
    /// Runs commands without a terminal: from 3.0.1124.0 (release notes).
    pub runs_commands: bool,
    /// Keeps stdout and stderr of such a command apart and tells its exit code: from 3.1.1511.0 (release notes).
    pub separates_output: bool,
}

impl AgentAbilities {
    /// Those of this version. What cannot be read as one is taken for the oldest.
    pub fn of(version: &str) -> Self {
        Self {
            multiplexes: is_above(version, MUX_ABOVE),
            expects_keep_alives: !is_above(version, KEEP_ALIVE_UP_TO),
            heeds_terminate_flag: heeds_terminate_flag(version),
            reaches_hosts: !is_above("3.1.1374.0", version),
            runs_commands: !is_above("3.0.1124.0", version),
            separates_output: !is_above("3.1.1511.0", version),
        }
    }
}

/// How a client runs a port session with an agent of this version.
///
/// Both sides decide alone: the client by the agent's version being above 3.0.196.0 (plugin `portsession.go`
/// `getNewPortSession`), the agent by the client's being 1.1.70 or more. The client sends keep-alives to agents up to
/// 3.1.1511.0 (plugin `muxportforwarding.go`).
pub(crate) fn client_port_mode(port: &PortProperties, agent: &str, client: &str) -> PortMode {
    if port.forwarding_type != LOCAL_PORT_FORWARDING {
        return PortMode::Stream;
    }
    if is_above(agent, MUX_ABOVE) && agent_allows_mux(client) {
        PortMode::Mux { keep_alive: !is_above(agent, KEEP_ALIVE_UP_TO) }
    } else {
        PortMode::Basic
    }
}

/// How an agent runs a port session with a client of this version (agent `port.go` `getPortSession`). It expects keep-alives
/// of clients up to 1.2.331.0.
pub(crate) fn agent_port_mode(port: &PortProperties, client: &str) -> PortMode {
    if port.forwarding_type != LOCAL_PORT_FORWARDING {
        PortMode::Stream
    } else if agent_allows_mux(client) {
        PortMode::Mux { keep_alive: agent_compare(client, "1.2.331.0") != Ordering::Greater }
    } else {
        PortMode::Basic
    }
}

/// Whether an agent heeds the terminate flag (plugin `config.go` `TerminateSessionFlagSupportedAfterThisAgentVersion`).
pub(crate) fn heeds_terminate_flag(agent: &str) -> bool {
    is_above(agent, "2.3.722.0")
}

fn agent_allows_mux(client: &str) -> bool {
    agent_compare(client, "1.1.70") != Ordering::Less
}

/// Whether `version` is strictly above `gate`. Missing components count as 0 and anything behind the digits of a component
/// is ignored, so that versions of any number of components pass the gates they should.
fn is_above(version: &str, gate: &str) -> bool {
    let components = |text: &str| -> [u64; 4] {
        let mut parts = text.split('.').map(leading_number);
        [(); 4].map(|()| parts.next().unwrap_or(0))
    };
    components(version) > components(gate)
}

fn leading_number(text: &str) -> u64 {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text[..digits].parse().unwrap_or(0)
}

/// The agent's own comparison (agent `versionutil.go` `compare`): component by component, numbers as numbers and all else
/// as text; with equal components the longer version is greater.
fn agent_compare(version: &str, other: &str) -> Ordering {
    let mut theirs = other.split('.');
    for ours in version.split('.') {
        let Some(theirs) = theirs.next() else { return Ordering::Greater };
        let order = match (ours.parse::<u64>(), theirs.parse::<u64>()) {
            (Ok(ours), Ok(theirs)) => ours.cmp(&theirs),
            _ => ours.cmp(theirs),
        };
        if order != Ordering::Equal {
            return order;
        }
    }
    if theirs.next().is_some() { Ordering::Less } else { Ordering::Equal }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forwarding() -> PortProperties {
        PortProperties { forwarding_type: LOCAL_PORT_FORWARDING.into(), ..PortProperties::default() }
    }

    #[test]
    fn item_82_99_the_mux_gate_is_strict() {
        let mode = |agent| client_port_mode(&forwarding(), agent, "1.2.764.0");
        assert_eq!(mode("3.0.196.0"), PortMode::Basic);
        assert_eq!(mode("3.0.196.1"), PortMode::Mux { keep_alive: true });
        assert_eq!(mode("3.1.1511.0"), PortMode::Mux { keep_alive: true });
        assert_eq!(mode("3.1.1512.0"), PortMode::Mux { keep_alive: false });
    }

    #[test]
    fn abilities_begin_where_they_are_said_to() {
        let of = AgentAbilities::of;
        assert!(!of("3.1.1373.9").reaches_hosts && of("3.1.1374.0").reaches_hosts);
        assert!(!of("3.0.1123.0").runs_commands && of("3.0.1124").runs_commands);
        assert!(!of("3.1.1510.0").separates_output && of("3.1.1511.0").separates_output);
        assert!(of("3.1.1511.0").expects_keep_alives && !of("3.1.1511.1").expects_keep_alives);
        assert!(!of("3.0.196.0").multiplexes && of("3.0.196.1").multiplexes);
        let unknown = of("x");
        assert!(!unknown.multiplexes && !unknown.heeds_terminate_flag && !unknown.reaches_hosts);
    }

    #[test]
    fn item_62_odd_agent_versions_pass_the_gates_they_should() {
        for agent in ["3.3.987", "3.3.987.0.1", "3.1.1732.0-rc1", "3.2"] {
            let mode = client_port_mode(&forwarding(), agent, "1.2.764.0");
            assert_eq!(mode, PortMode::Mux { keep_alive: false }, "{agent}");
        }
        for agent in ["", "x.y", "2.3.722.0"] {
            assert_eq!(client_port_mode(&forwarding(), agent, "1.2.764.0"), PortMode::Basic, "{agent}");
        }
    }

    #[test]
    fn item_82_both_sides_use_basic_mode_for_a_low_client_version() {
        assert_eq!(client_port_mode(&forwarding(), "3.3.987.0", "1.0.0.0"), PortMode::Basic);
        assert_eq!(agent_port_mode(&forwarding(), "1.0.0.0"), PortMode::Basic);
    }

    /// Seen with agent 3.3.
    #[test]
    fn item_82_99_the_agent_compares_as_awss_does() {
        for basic in ["1.1.69", "1.1.69.99", ""] {
            assert_eq!(agent_port_mode(&forwarding(), basic), PortMode::Basic, "{basic}");
        }
        for mux in ["1.1.70", "1.1.70.0", "1.1.100", "1.10", "text", "1.2.331.0"] {
            assert!(matches!(agent_port_mode(&forwarding(), mux), PortMode::Mux { .. }), "{mux}");
        }
        assert_eq!(agent_port_mode(&forwarding(), "1.2.331.0"), PortMode::Mux { keep_alive: true });
        assert_eq!(agent_port_mode(&forwarding(), "1.2.331.1"), PortMode::Mux { keep_alive: false });
        assert_eq!(agent_port_mode(&forwarding(), "1.2.1000.0"), PortMode::Mux { keep_alive: false });
    }

    #[test]
    fn item_81_without_the_type_property_it_is_a_stream() {
        assert_eq!(client_port_mode(&PortProperties::default(), "3.3.987.0", "1.2.764.0"), PortMode::Stream);
        assert_eq!(agent_port_mode(&PortProperties::default(), "1.2.764.0"), PortMode::Stream);
    }
}
