//! The configuration file: what flags and variables leave open, names for machines and databases, and groups of tunnels.
//!
//! | module | what it does |
//! |---|---|
//! | `database` | a database: what is looked for, and how it is used |
//! | `setting` | what flags, variables and the file can all say, and who has said it |
//! | `document` | the file as serde reads it |
//! | `entry` | adds to the file |
//! | `file` | the file once it is checked |
//! | `mistake` | what is wrong with it: file, line, key, and what was probably meant |

mod database;
mod document;
#[cfg(feature = "db")]
mod entry;
mod file;
mod mistake;
mod setting;

use std::fs::{self, File as OsFile, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use rustix::process::geteuid;
use ssm_resolve::Target;

pub(crate) use self::database::Database;
#[cfg(feature = "db")]
pub(crate) use self::database::Selector;
pub(crate) use self::file::{Alias, File, Member};
pub(crate) use self::mistake::{Mistake, meant};
pub(crate) use self::setting::{Origin, Setting, Settings, Value};
use crate::args::{
    ChannelArgs, CommandChannelArgs, ConnectionArgs, EndpointArg, IntervalArg, PacingArg, ReconnectArg,
};
use crate::places;

/// Names the file, in place of the usual one.
const PATH_VARIABLE: &str = "SSM_CONFIG";

/// Set by aws-vault, to the profile whose credentials are in the environment.
pub(crate) const VAULT_VARIABLE: &str = "AWS_VAULT";

/// Longest file: some thousand aliases.
const LEN_MAX: u64 = 1024 * 1024;

/// What others may not do with the file.
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// Everything that is said outside of the command line.
#[derive(Debug, Default)]
pub(crate) struct Config {
    pub(crate) path: Option<PathBuf>,
    variables: Settings,
    /// What `aws-vault exec` is at work for.
    vault: Option<String>,
    pub(crate) file: File,
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    #[error("cannot read the configuration {}: {source}", .path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("the configuration {} is not used: it {why}", .path.display())]
    Refused { path: PathBuf, why: &'static str },
    #[error("the configuration {} is not used: it is longer than {LEN_MAX} bytes", .0.display())]
    TooLong(PathBuf),
    #[error(transparent)]
    Mistake(#[from] Mistake),
    #[error("the variable {0}")]
    Variable(String),
}

/// Flags that others speak for when they are not given.
#[derive(Debug)]
pub(crate) struct Flags<'a> {
    connection: &'a mut ConnectionArgs,
    payload_size: Option<&'a mut Option<u16>>,
    pacing: Option<&'a mut Option<PacingArg>>,
    keep_alive: Option<&'a mut Option<IntervalArg>>,
    reconnect: Option<&'a mut Option<ReconnectArg>>,
    lanes: Option<&'a mut Option<u16>>,
}

/// Those that every command has.
impl<'a> From<&'a mut ConnectionArgs> for Flags<'a> {
    fn from(connection: &'a mut ConnectionArgs) -> Self {
        Self { connection, payload_size: None, pacing: None, keep_alive: None, reconnect: None, lanes: None }
    }
}

impl Config {
    /// Reads the file that `flag` names, else the variable `SSM_CONFIG`, else the usual one, which need not be there; and the
    /// variables.
    ///
    /// # Errors
    ///
    /// When a file that was named is not there, when others could have written it, and at the first mistake.
    pub(crate) fn load(flag: Option<&Path>) -> Result<Self, ConfigError> {
        let variables = Settings::from_variables(|name| {
            std::env::var_os(name).map(|value| value.to_string_lossy().into_owned())
        });
        let variables = variables.map_err(ConfigError::Variable)?;
        let path = Self::path(flag);
        let file = match &path {
            Some((path, Named::No)) if is_pipe(path) => {
                let why = "is a pipe, which may never end; name it with --config to have it read";
                return Err(ConfigError::Refused { path: path.into(), why });
            }
            Some((path, named)) => match read(path) {
                Ok(text) => File::parse(path, &text)?,
                Err(ConfigError::Unreadable { source, .. }) if *named == Named::No && is_absent(&source) => {
                    File::default()
                }
                Err(error) => return Err(error),
            },
            None => File::default(),
        };
        let vault = std::env::var(VAULT_VARIABLE).ok().filter(|profile| !profile.is_empty());
        Ok(Self { path: path.map(|(path, _)| path), variables, vault, file })
    }

    /// Where the file is, or would be.
    pub(crate) fn path(flag: Option<&Path>) -> Option<(PathBuf, Named)> {
        let variable = || std::env::var_os(PATH_VARIABLE).filter(|path| !path.is_empty()).map(PathBuf::from);
        match flag.map(PathBuf::from).or_else(variable) {
            Some(path) => Some((path, Named::Yes)),
            None => Some((places::config_file()?, Named::No)),
        }
    }

    /// The alias that is meant by a target.
    pub(crate) fn alias(&self, target: Option<&str>) -> Option<&Alias> {
        self.file.aliases.get(target?)
    }

    /// What holds beside the flags: what the variables say, else an alias or a database, else the defaults.
    pub(crate) fn settings(&self, own: Option<&Settings>) -> Settings {
        let settings = self.variables.clone();
        let settings = match own {
            Some(own) => settings.or(own),
            None => settings,
        };
        let settings = settings.or(&self.file.defaults);
        // Whoever runs this under aws-vault wants the credentials that are there; a flag can say something else.
        if self.vault.is_some() { settings.without(Setting::Profile) } else { settings }
    }

    /// The account of a tunnel of a group.
    #[cfg(feature = "aws")]
    pub(crate) fn connection_of(&self, member: &Member) -> ConnectionArgs {
        let settings_of =
            |alias: Option<&Alias>| alias.map(|alias| alias.settings.clone()).unwrap_or_default();
        let own = match member {
            Member::Alias(name) => settings_of(self.alias(Some(name))),
            Member::Database(name) => {
                self.file.databases.get(name).map(|database| database.settings.clone()).unwrap_or_default()
            }
            Member::Own(own) => own.settings.clone().or(&settings_of(self.alias(Some(&own.target.text)))),
        };
        let mut connection = ConnectionArgs::default();
        self.fill_from(Some(&own), &mut connection);
        connection
    }

    /// Fills in the flags that were not given. Gives the alias that `target` is, if it is one.
    pub(crate) fn fill<'a>(&self, target: Option<&str>, flags: impl Into<Flags<'a>>) -> Option<&Alias> {
        let mut flags = flags.into();
        let alias = self.alias(target);
        flags.take_region(alias.map(|alias| alias.target.text.as_str()).or(target));
        self.fill_from(alias.map(|alias| &alias.settings), flags);
        alias
    }

    /// Fills in the flags that were not given, with what stands in front of the defaults.
    pub(crate) fn fill_from<'a>(&self, own: Option<&Settings>, flags: impl Into<Flags<'a>>) {
        let mut flags = flags.into();
        for (setting, value) in self.settings(own).iter() {
            flags.fill(setting, value);
        }
    }
}

/// Whether the user has named the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Named {
    Yes,
    No,
}

impl<'a> Flags<'a> {
    /// With those of a tunnel's channel.
    #[must_use]
    pub(crate) fn channel(self, channel: &'a mut ChannelArgs) -> Self {
        Self {
            payload_size: Some(&mut channel.payload_size),
            pacing: Some(&mut channel.pacing),
            keep_alive: Some(&mut channel.keep_alive),
            reconnect: Some(&mut channel.reconnect),
            ..self
        }
    }

    /// With those of a command's channel.
    #[must_use]
    pub(crate) fn command(self, channel: &'a mut CommandChannelArgs) -> Self {
        Self { pacing: Some(&mut channel.pacing), reconnect: Some(&mut channel.reconnect), ..self }
    }

    /// With that of a shell: how often one that was lost is tried to be brought back.
    #[must_use]
    pub(crate) fn reconnect(self, reconnect: &'a mut Option<ReconnectArg>) -> Self {
        Self { reconnect: Some(reconnect), ..self }
    }

    /// With that of a forward.
    #[must_use]
    pub(crate) fn lanes(self, lanes: &'a mut Option<u16>) -> Self {
        Self { lanes: Some(lanes), ..self }
    }

    /// A machine is in the region that its ARN says, whatever is configured for others.
    fn take_region(&mut self, target: Option<&str>) {
        if let Some(Ok(Target::Arn(arn))) = target.map(str::parse)
            && !self.connection.attach
        {
            self.connection.region.get_or_insert_with(|| arn.region().into());
        }
    }

    /// A session that was started elsewhere has its account, and is one.
    fn fill(&mut self, setting: Setting, value: &Value) {
        if self.connection.attach && (setting.is_of_account() || setting == Setting::Lanes) {
            return;
        }
        let text = || value.text.clone();
        match setting {
            Setting::Profile => drop(self.connection.profile.get_or_insert_with(text)),
            Setting::Region => drop(self.connection.region.get_or_insert_with(text)),
            Setting::EndpointUrl => drop(self.connection.endpoint_url.get_or_insert_with(text)),
            Setting::SsmmessagesEndpointUrl => {
                self.connection.ssmmessages_endpoint_url.get_or_insert_with(text);
            }
            Setting::Endpoint(service) => {
                let endpoints = &mut self.connection.endpoints;
                if endpoints.iter().all(|endpoint| endpoint.service != service) {
                    endpoints.push(EndpointArg { service, url: text() });
                }
            }
            Setting::Fips => {
                self.connection.fips.get_or_insert_with(|| value.parse());
            }
            Setting::DualStack => {
                self.connection.dual_stack.get_or_insert_with(|| value.parse());
            }
            Setting::Proxy => drop(self.connection.proxy.get_or_insert_with(text)),
            Setting::NoProxy => drop(self.connection.no_proxy.get_or_insert_with(text)),
            Setting::CaBundle => {
                self.connection.ca_bundle.get_or_insert_with(|| at_home(&value.text));
            }
            Setting::PayloadSize => put(&mut self.payload_size, value),
            Setting::Pacing => put(&mut self.pacing, value),
            Setting::KeepAlive => put(&mut self.keep_alive, value),
            Setting::Reconnect => put(&mut self.reconnect, value),
            Setting::Lanes => put(&mut self.lanes, value),
        }
    }
}

/// For a flag that the command has and that was not given.
fn put<T: FromStr>(flag: &mut Option<&mut Option<T>>, value: &Value) {
    if let Some(flag) = flag {
        flag.get_or_insert_with(|| value.parse());
    }
}

/// A path as a shell reads it: `~/` is the home folder.
fn at_home(path: &str) -> PathBuf {
    let home = || std::env::home_dir().filter(|home| !home.as_os_str().is_empty());
    match path.strip_prefix("~/").and_then(|rest| Some(home()?.join(rest))) {
        Some(path) => path,
        None => path.into(),
    }
}

fn read(path: &Path) -> Result<String, ConfigError> {
    let unreadable = |source| ConfigError::Unreadable { path: path.into(), source };
    let file = OsFile::open(path).map_err(unreadable)?;
    // Asked of what is open: a name may lead elsewhere a moment later.
    let found = file.metadata().map_err(unreadable)?;
    if let Some(why) = refusal(&found, geteuid().as_raw()) {
        return Err(ConfigError::Refused { path: path.into(), why });
    }
    let mut bytes = Vec::new();
    file.take(LEN_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > LEN_MAX {
        return Err(ConfigError::TooLong(path.into()));
    }
    String::from_utf8(bytes).map_err(|error| {
        let line =
            mistake::line_of(&String::from_utf8_lossy(error.as_bytes()), error.utf8_error().valid_up_to());
        unreadable(io::Error::other(format!("line {line} is not UTF-8")))
    })
}

/// Why a file is not to be trusted: it says where credentials are sent. As ssh has it with its own.
fn refusal(found: &Metadata, user: u32) -> Option<&'static str> {
    if found.is_dir() {
        return Some("is a folder");
    }
    // /dev/null is for everybody and stands for no configuration.
    if found.file_type().is_char_device() {
        return None;
    }
    if found.uid() != user && found.uid() != 0 {
        return Some("belongs to somebody else");
    }
    let others_write = found.mode() & WRITABLE_BY_OTHERS != 0;
    others_write.then_some("can be written by others; close it with chmod go-w")
}

fn is_pipe(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|found| found.file_type().is_fifo())
}

fn is_absent(error: &io::Error) -> bool {
    // What stands in place of a folder is no folder with a configuration.
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn config(text: &str) -> Config {
        let file = File::parse(Path::new("/c"), text).unwrap();
        Config { path: None, variables: Settings::default(), vault: None, file }
    }

    #[test]
    fn flags_go_before_variables_alias_and_defaults() {
        let mut config = config(
            "[defaults]\nprofile = 'd'\nregion = 'd'\nlanes = 2\npacing = 100\n\
             [alias.db]\ntarget = 't'\nprofile = 'a'\nregion = 'a'\nlanes = 3\npayload-size = 2048",
        );
        config.variables =
            Settings::from_variables(|name| (name == "SSM_REGION").then(|| "v".into())).unwrap();
        let mut connection = ConnectionArgs::default();
        let (mut channel, mut lanes) = (ChannelArgs::default(), Some(5));
        let flags = Flags::from(&mut connection).channel(&mut channel).lanes(&mut lanes);
        assert_eq!(config.fill(Some("db"), flags).unwrap().target.text, "t");
        assert_eq!((connection.profile.as_deref(), connection.region.as_deref()), (Some("a"), Some("v")));
        assert_eq!((channel.payload_size, lanes), (Some(2048), Some(5)));
        assert_eq!(channel.pacing, Some(PacingArg::PerSecond(100)));
        let mut other = ConnectionArgs::default();
        assert!(config.fill(Some("other"), &mut other).is_none());
        assert_eq!(other.profile.as_deref(), Some("d"));
    }

    #[test]
    fn how_often_to_reconnect_is_said_by_a_flag_or_an_alias_or_the_defaults() {
        let config = config(
            "[defaults]\nreconnect = 'never'\n[alias.db]\ntarget = 't'\nreconnect = 3\n[alias.web]\ntarget = 't'",
        );
        let mut connection = ConnectionArgs::default();
        for (target, flag, said) in [
            ("db", None, ReconnectArg::Times(3)),
            ("db", Some(ReconnectArg::Always), ReconnectArg::Always),
            ("web", None, ReconnectArg::Never),
        ] {
            let mut reconnect = flag;
            config.fill(Some(target), Flags::from(&mut connection).reconnect(&mut reconnect));
            assert_eq!(reconnect, Some(said), "{target}");
        }
        let mut channel = ChannelArgs::default();
        config.fill(Some("db"), Flags::from(&mut connection).channel(&mut channel));
        assert_eq!(channel.reconnect, Some(ReconnectArg::Times(3)));
    }

    #[test]
    fn a_command_takes_what_is_said_of_its_channel_and_keeps_its_flags() {
        let config = config("[defaults]\npacing = 'off'\nreconnect = 2\nlanes = 3");
        let mut connection = ConnectionArgs::default();
        let mut channel = CommandChannelArgs::default();
        config.fill(Some("t"), Flags::from(&mut connection).command(&mut channel));
        let said =
            CommandChannelArgs { pacing: Some(PacingArg::Off), reconnect: Some(ReconnectArg::Times(2)) };
        assert_eq!(channel, said);
        let mut channel =
            CommandChannelArgs { pacing: Some(PacingArg::PerSecond(7)), ..CommandChannelArgs::default() };
        config.fill(Some("t"), Flags::from(&mut connection).command(&mut channel));
        assert_eq!(channel, CommandChannelArgs { pacing: Some(PacingArg::PerSecond(7)), ..said });
    }

    #[cfg(feature = "aws")]
    #[test]
    fn a_tunnel_of_a_group_has_the_account_that_it_is_started_in() {
        let config = config(
            "[defaults]\nprofile = 'd'\nregion = 'd'\n[alias.db]\ntarget = 't'\nprofile = 'a'\nforwards = [80]\n\
             [group.g]\ntunnels = ['db', { target = 'db', forwards = [80], profile = 'o' }, { target = 'x', forwards = [80] }]",
        );
        let profiles = config.file.groups["g"].iter().map(|member| config.connection_of(member));
        let profiles: Vec<_> = profiles.map(|of| (of.profile.unwrap(), of.region.unwrap())).collect();
        let expected = ["a", "o", "d"].map(|profile| (profile.to_owned(), "d".to_owned()));
        assert_eq!(profiles, expected);
    }

    #[test]
    fn under_aws_vault_only_a_flag_says_another_profile() {
        let mut config =
            config("[defaults]\nprofile = 'd'\nregion = 'r'\n[alias.db]\ntarget = 't'\nprofile = 'a'");
        config.vault = Some("prod".into());
        let filled = |mut connection: ConnectionArgs| {
            config.fill(Some("db"), &mut connection);
            (connection.profile, connection.region)
        };
        assert_eq!(filled(ConnectionArgs::default()), (None, Some("r".into())));
        let flag = ConnectionArgs { profile: Some("f".into()), ..ConnectionArgs::default() };
        assert_eq!(filled(flag).0.as_deref(), Some("f"));
    }

    #[test]
    fn the_region_of_an_arn_goes_before_everything_but_a_flag() {
        let arn = "arn:aws:ec2:eu-west-1:123456789012:instance/i-01234567";
        let config =
            config(&format!("[defaults]\nregion = 'd'\n[alias.web]\ntarget = '{arn}'\nregion = 'a'"));
        let region = |target, flag: Option<&str>| {
            let mut connection = ConnectionArgs { region: flag.map(Into::into), ..ConnectionArgs::default() };
            config.fill(Some(target), &mut connection);
            connection.region.unwrap()
        };
        assert_eq!(region(arn, None), "eu-west-1");
        assert_eq!(region("web", None), "eu-west-1");
        assert_eq!(region(arn, Some("f")), "f");
        assert_eq!(region("other", None), "d");
    }

    #[test]
    fn a_session_from_elsewhere_keeps_its_account() {
        let config = config("[defaults]\nprofile = 'd'\nlanes = 2\npayload-size = 2048");
        let mut connection = ConnectionArgs { attach: true, ..ConnectionArgs::default() };
        let (mut channel, mut lanes) = (ChannelArgs::default(), None);
        let flags = Flags::from(&mut connection).channel(&mut channel).lanes(&mut lanes);
        config.fill(None, flags);
        assert_eq!((connection.profile, lanes, channel.payload_size), (None, None, Some(2048)));
    }

    #[test]
    fn what_others_can_write_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c");
        fs::write(&path, "").unwrap();
        let user = geteuid().as_raw();
        for (mode, refused) in [(0o600, false), (0o644, false), (0o664, true), (0o606, true), (0o602, true)] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(refusal(&fs::metadata(&path).unwrap(), user).is_some(), refused, "{mode:o}");
        }
        let null = fs::metadata("/dev/null").unwrap();
        assert_eq!(refusal(&null, user), None);
        assert_eq!(refusal(&fs::metadata(folder.path()).unwrap(), user), Some("is a folder"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let found = fs::metadata(&path).unwrap();
        let somebody = refusal(&found, user + 1);
        assert_eq!(somebody.is_some(), user != 0, "{somebody:?}");
    }

    #[test]
    fn what_is_too_long_or_no_text_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c");
        let told = |bytes: &[u8]| {
            fs::write(&path, bytes).unwrap();
            read(&path).map(|text| text.len()).map_err(|error| error.to_string())
        };
        let long = usize::try_from(LEN_MAX).unwrap();
        assert_eq!(told(&vec![b'#'; long]), Ok(long));
        assert!(told(&vec![b'#'; long + 1]).unwrap_err().contains("longer than"));
        assert!(told(b"#\n#\xff").unwrap_err().ends_with("line 2 is not UTF-8"));
    }
}
