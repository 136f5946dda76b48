//! What the user typed. Nothing here looks at the machine or the network.

#![allow(
    rustdoc::broken_intra_doc_links,
    reason = "the documentation of arguments is their help text, where brackets mean optional"
)]

#[cfg(feature = "db")]
mod db;
mod decode;
mod doctor;
mod duration;
#[cfg(feature = "lookup")]
mod ecs;
mod endpoint;
mod limits;
mod list;
#[cfg(feature = "aws")]
mod login;
mod plugin;
mod reconnect;
mod sessions;
mod shell;
mod ssh;

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{ArgAction, Args as ClapArgs, Parser, Subcommand, ValueEnum};
use ssm_portfwd::{Destination, ForwardSpec, ListenAddr};

#[cfg(feature = "db")]
pub(crate) use self::db::{DbArgs, DbCommand, DbListArgs, EngineArg};
pub(crate) use self::decode::DecodeArgs;
pub(crate) use self::doctor::DoctorArgs;
pub(crate) use self::duration::{DurationArg, IntervalArg, LimitArg};
#[cfg(feature = "lookup")]
pub(crate) use self::ecs::{
    EcsArgs, EcsCheckArgs, EcsCommand, EcsExecArgs, EcsForwardArgs, EcsListArgs, PartArgs, PlaceArgs,
};
pub(crate) use self::endpoint::{EndpointArg, ProxyArg, Service};
pub(crate) use self::limits::{LANES, PAYLOAD_SIZES, PacingArg};
pub(crate) use self::list::ListArgs;
#[cfg(feature = "aws")]
pub(crate) use self::login::{LoginArgs, LogoutArgs};
pub(crate) use self::plugin::{InstallArgs, PluginArgs, PluginCommand, UninstallArgs};
pub(crate) use self::reconnect::ReconnectArg;
pub(crate) use self::sessions::SessionsArgs;
#[cfg(feature = "aws")]
pub(crate) use self::sessions::{OrphansArgs, SessionsCommand, TerminateArgs, WhichArgs};
pub(crate) use self::shell::{EscapeArg, ShellArgs};
pub(crate) use self::ssh::{
    Globals, KeyArgs, Kind, OpenSsh, ScpArgs, SftpArgs, SshArgs, SshConfigArgs, ThroughArgs, kinds, sorted,
};
#[cfg(feature = "metrics")]
use crate::metrics::MetricsAddr;

mod cp;
mod exec;

pub(crate) use self::cp::CpArgs;
pub(crate) use self::exec::{ExecArgs, Via};

/// Shells, tunnels and ssh to private machines through AWS Session Manager.
#[derive(Debug, Parser)]
#[command(name = "ssm", version, disable_help_subcommand = true)]
pub(crate) struct Args {
    /// Say more on stderr; twice for the traffic of the data channel, without its contents
    #[arg(short, long, action = ArgAction::Count, global = true)]
    pub(crate) verbose: u8,
    /// Say nothing on stderr but why a command failed
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
    /// Configuration, in place of config.toml in the usual folder or of SSM_CONFIG
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Write every frame of the data channels to this new file, for `ssm decode`: without tokens, with all that is typed and shown
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) capture: Option<PathBuf>,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Shell(ShellArgs),
    Exec(ExecArgs),
    Cp(CpArgs),
    Forward(ForwardArgs),
    #[cfg(feature = "db")]
    Db(Box<DbArgs>),
    Tunnels(TunnelsArgs),
    Up(UpArgs),
    Status(StatusArgs),
    Down(DownArgs),
    Config(ConfigArgs),
    Proxy(ProxyArgs),
    Ssh(SshArgs),
    Scp(ScpArgs),
    Sftp(SftpArgs),
    SshConfig(SshConfigArgs),
    #[cfg(feature = "lookup")]
    Ecs(EcsArgs),
    Resolve(ResolveArgs),
    Decode(DecodeArgs),
    #[cfg(feature = "aws")]
    Login(LoginArgs),
    #[cfg(feature = "aws")]
    Logout(LogoutArgs),
    Doctor(DoctorArgs),
    List(ListArgs),
    Sessions(SessionsArgs),
    Plugin(PluginArgs),
    Completions(CompletionsArgs),
    Man(ManArgs),
    Loopback(LoopbackArgs),
    Demo(DemoArgs),
}

/// Carry local connections to a machine, or to a host it can reach
///
/// Ctrl-C ends it, with exit code 0. A session that the service ends is replaced when the next connection needs it.
#[derive(Debug, ClapArgs)]
pub(crate) struct ForwardArgs {
    /// Instance id (i-..., mi-...), tag:KEY=VALUE, asg:GROUP, address, name, container (ecs:CLUSTER/SERVICE-OR-TASK[/CONTAINER]), or alias
    ///
    /// Without one, on a terminal, there is a list to choose from.
    pub(crate) target: Option<String>,
    /// Where to listen and where to lead, as in ssh: [bind:]port:host:hostport; port:hostport or port for the machine itself
    ///
    /// May be repeated: each one has sessions of its own. Local port 0 takes a free one, which is printed. A path in place of
    /// the port is a UNIX socket: /path:host:hostport. Ports may be names of services.
    #[arg(short = 'L', value_name = "SPEC")]
    pub(crate) specs: Vec<ForwardSpec>,
    /// Serve SOCKS5 and HTTP CONNECT, with a session for each destination: [bind:]port, or the path of a UNIX socket
    ///
    /// Names are looked up by the machine. May be repeated.
    #[arg(short = 'D', value_name = "[BIND:]PORT", conflicts_with = "attach")]
    pub(crate) proxies: Vec<ListenAddr>,
    /// How long a destination of -D keeps its sessions without a connection: 90s, 5m, 1h, or off [default: 5m]
    #[arg(long, value_name = "TIME", requires = "proxies")]
    pub(crate) proxy_idle: Option<LimitArg>,
    /// Most destinations of -D with sessions at a time; the one that was idle longest gives way [default: 32]
    #[arg(long, value_name = "N", requires = "proxies", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) proxy_destinations: Option<u16>,
    /// Most sessions to start a second, of all forwards together; the API refuses who asks too often [default: about 3]
    #[arg(long, value_name = "N", conflicts_with = "attach", value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(crate) start_rate: Option<u16>,
    /// Carry stdin and stdout to a host, or to a port of the machine itself
    #[arg(short = 'W', value_name = "HOST:PORT", conflicts_with_all = ["specs", "proxies", "json", "command", "lanes", "start_rate", "background", "wait"])]
    pub(crate) stdio: Option<Destination>,
    /// Most sessions for one destination; another one is opened when all have a connection [default: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(LANES))]
    pub(crate) lanes: Option<u16>,
    /// End all forwards when one of them cannot be set up, in place of carrying on with the others
    #[arg(long)]
    pub(crate) exit_on_forward_failure: bool,
    /// Return when the forwards are ready, and leave them running in the background, as ssh -f does
    ///
    /// Those that cannot be set up are told of; when there is no other the command fails and nothing stays behind. `ssm
    /// tunnels` shows what runs, and `ssm tunnels stop` ends it.
    #[arg(long, conflicts_with = "command")]
    pub(crate) background: bool,
    /// Return when all forwards are ready, and fail when one of them cannot be set up, or not in time
    ///
    /// Otherwise as --background. For scripts: what follows can use every forward.
    #[arg(long, value_name = "TIME", num_args = 0..=1, require_equals = true, conflicts_with = "command")]
    pub(crate) wait: Option<Option<DurationArg>>,
    /// The group and tunnel of `ssm up`
    #[arg(long, hide = true)]
    pub(crate) name: Option<String>,
    /// The process in the background
    #[arg(long, hide = true)]
    pub(crate) detached: bool,
    /// Write each event to stdout, as a line of JSON
    #[arg(long, conflicts_with = "command")]
    pub(crate) json: bool,
    /// Tell on the desktop, too, when the connection is lost for a while, is back, or is over
    #[arg(long)]
    pub(crate) notify: bool,
    /// Serve metrics for Prometheus over HTTP, at /metrics; for this machine only, unless an address says otherwise
    ///
    /// Port 0 takes a free one, which is printed.
    #[cfg(feature = "metrics")]
    #[arg(long, value_name = "[ADDR:]PORT")]
    pub(crate) metrics: Option<MetricsAddr>,
    /// Run this once all forwards listen, and end with it and its exit code
    ///
    /// {host} and {port} in its arguments are where the first forward listens, {host2} and {port2} the second, and so on; the
    /// variables SSM_FORWARD_HOST, SSM_FORWARD_PORT, SSM_FORWARD_HOST_2, ... say the same.
    #[arg(last = true, value_name = "COMMAND")]
    pub(crate) command: Vec<OsString>,
    #[command(flatten)]
    pub(crate) connection: ConnectionArgs,
    #[command(flatten)]
    pub(crate) channel: ChannelArgs,
}

impl ForwardArgs {
    /// Whether the forwards outlive the command.
    pub(crate) fn stays(&self) -> bool {
        self.background || self.wait.is_some()
    }

    /// Most sessions for one destination.
    pub(crate) fn lanes(&self) -> u16 {
        self.lanes.unwrap_or(1)
    }

    /// Whether one that cannot be set up ends them all.
    pub(crate) fn all_are_needed(&self) -> bool {
        self.exit_on_forward_failure || !self.command.is_empty() || self.wait.is_some()
    }
}

/// Show the forwards that run on this machine, or stop them
///
/// Shows those of this user, in the background or not.
#[derive(Debug, ClapArgs)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct TunnelsArgs {
    /// Write each one to stdout, as a line of JSON
    #[arg(long)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) command: Option<TunnelsCommand>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum TunnelsCommand {
    Stop(StopArgs),
}

/// End forwards and their sessions, and wait until they are gone
#[derive(Debug, ClapArgs)]
pub(crate) struct StopArgs {
    /// Their ids, as `ssm tunnels` shows them
    #[arg(value_name = "ID", required_unless_present = "all", conflicts_with = "all")]
    pub(crate) ids: Vec<String>,
    /// All of this user
    #[arg(long)]
    pub(crate) all: bool,
}

/// Start the tunnels of groups of the configuration, in the background
///
/// Those that run already are left as they are, and one that cannot be started does not stop the others: the command tells of
/// it and fails in the end.
#[derive(Debug, ClapArgs)]
pub(crate) struct UpArgs {
    /// Names of groups; all groups when there is none
    #[arg(value_name = "GROUP")]
    pub(crate) groups: Vec<String>,
    /// How long a tunnel may take until it is ready
    #[arg(long, value_name = "TIME", default_value = "60s")]
    pub(crate) timeout: DurationArg,
}

/// Show which tunnels of the groups run
#[derive(Debug, ClapArgs)]
pub(crate) struct StatusArgs {
    /// Names of groups; all groups when there is none
    #[arg(value_name = "GROUP")]
    pub(crate) groups: Vec<String>,
    /// Write each tunnel to stdout, as a line of JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// End the tunnels that ssm up has started
#[derive(Debug, ClapArgs)]
pub(crate) struct DownArgs {
    /// Names of groups; all groups when there is none
    #[arg(value_name = "GROUP")]
    pub(crate) groups: Vec<String>,
}

/// Show what is configured, and who says so
///
/// A flag goes before a variable, a variable before an alias, an alias before [defaults], and those before what AWS's own
/// configuration and variables say.
#[derive(Debug, ClapArgs)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct ConfigArgs {
    /// Alias or target to show what holds for it
    pub(crate) target: Option<String>,
    /// Write it to stdout as JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// As for ssm forward
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(LANES))]
    pub(crate) lanes: Option<u16>,
    #[command(flatten)]
    pub(crate) connection: ConnectionArgs,
    #[command(flatten)]
    pub(crate) channel: ChannelArgs,
    #[command(subcommand)]
    pub(crate) command: Option<ConfigCommand>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Say where the configuration is, or would be
    Path,
}

/// Carry ssh: for `ProxyCommand ssm proxy %h %p`
///
/// stdin goes to the port, what comes back goes to stdout, byte for byte.
#[derive(Debug, ClapArgs)]
pub(crate) struct ProxyArgs {
    /// [USER@]TARGET or TARGET:PORT, where TARGET is as for ssm shell
    #[arg(required_unless_present = "attach")]
    pub(crate) target: Option<String>,
    /// Port on the machine [default: 22]
    pub(crate) port: Option<u16>,
    #[command(flatten)]
    pub(crate) key: KeyArgs,
    #[command(flatten)]
    pub(crate) connection: ConnectionArgs,
    #[command(flatten)]
    pub(crate) channel: ChannelArgs,
}

/// Find the machine that a name means, and tell how
///
/// Prints what a session is started on. An id is its own answer and needs no account; for a name, stderr has what each step of
/// the search said.
#[derive(Debug, ClapArgs)]
pub(crate) struct ResolveArgs {
    /// Instance id, tag:KEY=VALUE, asg:GROUP, address, name or container
    pub(crate) target: String,
    /// Write the machine and what each step said to stdout, as a line of JSON
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) connection: ConnectionArgs,
}

/// Serve Session Manager on 127.0.0.1, with this machine behind it
///
/// For trying things out and for tests, without an AWS account. Ctrl-C ends it.
#[derive(Debug, ClapArgs)]
#[cfg_attr(feature = "demo", command(after_long_help = ssm_loopback::fault::help()))]
pub(crate) struct LoopbackArgs {
    /// Port on 127.0.0.1; 0 for one that is free
    #[arg(long, default_value_t = 0)]
    pub(crate) port: u16,
    /// Encrypt shells and commands with this KMS key: an id, ARN or alias
    #[arg(long, value_name = "KEY")]
    pub(crate) kms_key: Option<String>,
    /// KMS that decrypts data keys for the agent, in place of the loopback's own: it has the key, and takes the credentials of the environment
    #[cfg(feature = "aws")]
    #[arg(long, value_name = "URL", requires = "kms_key")]
    pub(crate) kms_endpoint_url: Option<String>,
    /// Id of the machine, in place of one that is made up
    #[arg(long, value_name = "ID")]
    pub(crate) target: Option<ssm_resolve::InstanceId>,
    /// The machine is not connected before this time has passed, as one that is starting
    #[arg(long, value_name = "TIME")]
    pub(crate) connected_after: Option<DurationArg>,
    /// Make something go wrong, as loss=5%,direction=up or cut=5s; several faults at once are several options
    ///
    /// The list of all faults is at the end of this text.
    #[cfg(feature = "demo")]
    #[arg(long, value_name = "SPEC")]
    pub(crate) fault: Vec<ssm_loopback::Fault>,
    #[command(flatten)]
    pub(crate) agent: AgentArgs,
}

/// See it work, without an AWS account
///
/// Opens a shell on this machine through the whole stack. Without a terminal, shows a command, a tunnel and its rates.
#[derive(Debug, ClapArgs)]
pub(crate) struct DemoArgs {
    #[command(flatten)]
    pub(crate) agent: AgentArgs,
}

/// Write the completions of a shell to stdout
///
/// For the start of each shell, so that the aliases and groups of the configuration are those of today: in ~/.bashrc
/// `source <(ssm completions bash)`, in ~/.zshrc the same with zsh behind compinit, in fish's config.fish `ssm completions fish | source`.
#[derive(Debug, ClapArgs)]
pub(crate) struct CompletionsArgs {
    /// The shell
    pub(crate) shell: clap_complete::Shell,
}

/// Write the manual pages
#[derive(Debug, ClapArgs)]
#[command(hide = true)]
pub(crate) struct ManArgs {
    /// Into this folder
    pub(crate) folder: PathBuf,
}

/// Who asks, where, and why.
#[derive(Debug, Clone, Default, PartialEq, Eq, ClapArgs)]
pub(crate) struct ConnectionArgs {
    /// Profile of the AWS configuration files
    #[arg(long)]
    pub(crate) profile: Option<String>,
    /// AWS region
    #[arg(long)]
    pub(crate) region: Option<String>,
    /// URL of the Systems Manager API
    #[arg(long, value_name = "URL")]
    pub(crate) endpoint_url: Option<String>,
    /// URL of an ssmmessages endpoint, in place of the one the service names: https://HOST[:PORT]
    #[arg(long, value_name = "URL")]
    pub(crate) ssmmessages_endpoint_url: Option<String>,
    /// URL of the API of another service: ec2, ecs, kms, rds, sts, ... May be repeated
    #[arg(long = "endpoint", value_name = "SERVICE=URL")]
    pub(crate) endpoints: Vec<EndpointArg>,
    /// Use hosts with FIPS 140 cryptography, for the APIs and for data channels; =false where a configuration has it
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(crate) fips: Option<bool>,
    /// Use hosts that have IPv6 as well, for the APIs and for data channels; =false where a configuration has it
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(crate) dual_stack: Option<bool>,
    /// Proxy for the APIs and for data channels: http://HOST:PORT, https://, socks5:// or socks5h://; or off
    #[arg(long, value_name = "URL")]
    // Read later: what is said of arguments that cannot be read shows them, and this one may hold a password.
    pub(crate) proxy: Option<String>,
    /// What is reached without the proxy: domains, addresses, networks, with commas between them
    #[arg(long, value_name = "HOSTS")]
    pub(crate) no_proxy: Option<String>,
    /// File of PEM certificates to trust in place of the system's, for the API and for data channels
    #[arg(long, value_name = "FILE")]
    pub(crate) ca_bundle: Option<PathBuf>,
    /// Take the first machine when a name means several
    #[arg(long)]
    pub(crate) first: bool,
    /// Look a name up even if that was done within the last minute
    #[arg(long)]
    pub(crate) no_cache: bool,
    /// Why, for the session history
    #[arg(long)]
    pub(crate) reason: Option<String>,
    /// Use the session in the environment variable SSM_ATTACH in place of starting one: a StartSession answer as JSON
    #[arg(long, conflicts_with_all = ["profile", "region", "endpoint_url", "endpoints", "first", "no_cache", "reason"])]
    pub(crate) attach: bool,
}

/// Knobs of the data channel.
#[derive(Debug, Clone, Default, PartialEq, Eq, ClapArgs)]
pub(crate) struct ChannelArgs {
    /// Bytes in a data message, 1024 to 32768; every agent and gateway takes 1024
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u16).range(PAYLOAD_SIZES))]
    pub(crate) payload_size: Option<u16>,
    /// Data messages a second, or off; the service cuts who sends more than about 1000 [default: 900]
    #[arg(long, value_name = "MESSAGES|off")]
    pub(crate) pacing: Option<PacingArg>,
    /// Say something without effect when a session was quiet for this long, so that the service does not end it for being idle:
    /// 90s, 2m, or off [default: off; 2m for ssm db]
    #[arg(long, value_name = "TIME")]
    pub(crate) keep_alive: Option<IntervalArg>,
    /// How often a lost connection is tried to be brought back before this ends: a number, always or never [default: always]
    #[arg(long, value_name = "N|always|never")]
    pub(crate) reconnect: Option<ReconnectArg>,
}

/// Knobs of the data channel of a command, which can have much input.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ClapArgs)]
pub(crate) struct CommandChannelArgs {
    /// Data messages a second, or off; the service cuts who sends more than about 1000 [default: 900]
    #[arg(long, value_name = "MESSAGES|off")]
    pub(crate) pacing: Option<PacingArg>,
    /// How often a lost connection is tried to be brought back before this ends: a number, always or never [default: for 10 minutes]
    #[arg(long, value_name = "N|always|never")]
    pub(crate) reconnect: Option<ReconnectArg>,
}

#[derive(Debug, Clone, Copy, Default, ClapArgs)]
pub(crate) struct AgentArgs {
    /// How the agent behaves
    #[arg(long, value_enum, default_value_t = AgentProfile::Fast)]
    pub(crate) profile: AgentProfile,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum AgentProfile {
    /// As fast as this machine
    #[default]
    Fast,
    /// As AWS's agent: 1024 bytes, a pause, 1024 bytes
    Aws,
}

impl fmt::Display for AgentProfile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fast => "fast",
            Self::Aws => "aws",
        })
    }
}

/// `KEY=VALUE`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Parameter {
    pub(crate) key: String,
    pub(crate) value: String,
}

impl FromStr for Parameter {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once('=') {
            Some((key, value)) if !key.is_empty() => Ok(Self { key: key.into(), value: value.into() }),
            _ => Err("a parameter is written KEY=VALUE"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Args, clap::Error> {
        Args::try_parse_from(line.split(' '))
    }

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Args::command().debug_assert();
    }

    #[test]
    fn several_forwards_are_taken() {
        let Ok(Args { command: Command::Forward(args), .. }) = parse(
            "ssm forward i-0123456789abcdef0 -L 5432:db:5432 -L 0:80 --payload-size 32768 --pacing off",
        ) else {
            panic!("not read as a forward");
        };
        assert_eq!(args.specs.len(), 2);
        assert_eq!(args.channel.payload_size, Some(32_768));
        assert_eq!(args.channel.pacing, Some(PacingArg::Off));
    }

    #[test]
    fn the_plugin_takes_its_arguments_as_they_are() {
        let Ok(Args { command: Command::Plugin(args), .. }) =
            parse("ssm plugin {} eu-west-1 StartSession  {\"Target\":\"i-1\"} https://h")
        else {
            panic!("not read as the plugin");
        };
        assert_eq!(args.args.len(), 6);
        assert_eq!(args.args[3], "");
        let Ok(Args { command: Command::Plugin(args), .. }) = parse("ssm plugin --version") else {
            panic!("not read as the plugin");
        };
        assert_eq!(args.args, ["--version"]);
    }

    #[test]
    fn a_session_that_is_given_has_its_account() {
        assert!(parse("ssm proxy").is_err() && parse("ssm proxy --attach").is_ok());
        assert!(parse("ssm forward --attach -L 80").is_ok());
        assert!(parse("ssm forward --attach --region eu-west-1 -L 80").is_err());
    }

    #[test]
    fn a_forward_leads_somewhere() {
        for form in ["-D 1080", "-W db:22", "-L /run/s:db:5432", "-L 80 -D 0 --lanes 4 -- psql -p {port}"] {
            assert!(parse(&format!("ssm forward i-0123456789abcdef0 {form}")).is_ok(), "{form}");
        }
        for form in ["-W db:22 -L 80", "-W db", "-D a:b:c", "-L 80 --lanes 0", "-L 80 --json -- true"] {
            assert!(parse(&format!("ssm forward i-0123456789abcdef0 {form}")).is_err(), "{form}");
        }
        assert!(parse("ssm forward --attach -D 1080").is_err());
    }

    #[test]
    fn waiting_may_have_a_limit() {
        let wait = |form: &str| match parse(&format!("ssm forward i-0123456789abcdef0 -L 80 {form}")) {
            Ok(Args { command: Command::Forward(args), .. }) => args.wait,
            other => panic!("{form}: {other:?}"),
        };
        assert_eq!(wait("--background"), None);
        assert_eq!(wait("--wait"), Some(None));
        assert_eq!(wait("--wait=2m"), Some(Some(DurationArg(std::time::Duration::from_secs(120)))));
        for form in ["--wait -- true", "--background -- true", "--wait=x", "--wait 5"] {
            assert!(parse(&format!("ssm forward i-0123456789abcdef0 -L 80 {form}")).is_err(), "{form}");
        }
    }

    #[test]
    fn what_is_stopped_is_named() {
        assert!(parse("ssm tunnels").is_ok() && parse("ssm tunnels --json").is_ok());
        assert!(parse("ssm tunnels stop 17 18").is_ok() && parse("ssm tunnels stop --all").is_ok());
        for wrong in ["stop", "stop 17 --all", "--json stop 17", "start"] {
            assert!(parse(&format!("ssm tunnels {wrong}")).is_err(), "{wrong}");
        }
    }

    #[test]
    fn knobs_of_the_proxy_are_read_and_need_one() {
        let knobs = "--proxy-idle 90s --proxy-destinations 4 --start-rate 10";
        let Ok(Args { command: Command::Forward(args), .. }) =
            parse(&format!("ssm forward i-0123456789abcdef0 -D /run/p {knobs}"))
        else {
            panic!("not read as a forward");
        };
        assert_eq!(args.proxy_idle, Some(LimitArg(Some(std::time::Duration::from_secs(90)))));
        assert_eq!((args.proxy_destinations, args.start_rate), (Some(4), Some(10)));
        for form in ["-L 80 --proxy-idle 1m", "-D 0 --proxy-destinations 0", "-D 0 --start-rate 0"] {
            assert!(parse(&format!("ssm forward i-0123456789abcdef0 {form}")).is_err(), "{form}");
        }
    }

    #[test]
    fn knobs_out_of_range_are_refused() {
        for wrong in ["--payload-size 1023", "--payload-size 32769", "--pacing 0", "--pacing fast"] {
            assert!(parse(&format!("ssm proxy i-0123456789abcdef0 {wrong}")).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_parameter_is_split_at_its_first_equals_sign() {
        let parameter: Parameter = "command=a=b".parse().unwrap();
        assert_eq!((parameter.key.as_str(), parameter.value.as_str()), ("command", "a=b"));
        assert!("=b".parse::<Parameter>().is_err());
        assert!("command".parse::<Parameter>().is_err());
    }
}
