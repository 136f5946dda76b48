//! EC2 Instance Connect: a public key that an instance takes for a minute.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::args::ConnectionArgs;
use crate::error::Error;

/// Longest public key the service takes, in bytes (shape `SSHPublicKey`).
const LEN_MAX: u64 = 4096;

/// What a key begins with that the service takes (user guide, "EC2 Instance Connect prerequisites").
const TYPES: [&str; 2] = ["ssh-ed25519", "ssh-rsa"];

/// The shortest and the longest name of a user (shape `InstanceOSUser`).
const USER_LEN: std::ops::RangeInclusive<usize> = 1..=32;

/// A public key, as in a file of ssh: one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PublicKey(String);

impl PublicKey {
    /// Reads the key in a file; that of its private key is found as well.
    ///
    /// # Errors
    ///
    /// When it is not there, or not a public key that can be sent. What is in the file is not shown: it may be a private key.
    pub(super) fn read(file: &Path) -> Result<Self, Error> {
        let path = public_path(file);
        let wrong = |why: String| Error::Usage(format!("the key {} cannot be sent: {why}", path.display()));
        let mut text = String::new();
        let read = File::open(&path).and_then(|file| file.take(LEN_MAX + 1).read_to_string(&mut text));
        read.map_err(|error| wrong(error.to_string()))?;
        Self::parse(&text).map_err(|why| wrong(why.into()))
    }

    fn parse(text: &str) -> Result<Self, &'static str> {
        let line = text.trim();
        if line.contains("PRIVATE KEY") {
            return Err("it is a private key, which stays here; name the public one");
        }
        if line.len() as u64 > LEN_MAX {
            return Err("it is longer than 4096 bytes");
        }
        let mut words = line.split_ascii_whitespace();
        let (kind, key) = (words.next().unwrap_or_default(), words.next());
        if line.contains(['\n', '\r']) || line.contains(char::is_control) || key.is_none() {
            return Err("it is not a public key of ssh, which is one line: TYPE KEY COMMENT");
        }
        if !TYPES.contains(&kind) {
            return Err("EC2 Instance Connect takes ssh-ed25519 and ssh-rsa only");
        }
        Ok(Self(line.into()))
    }
}

/// The public key beside a private one.
pub(super) fn public_path(file: &Path) -> PathBuf {
    let mut beside = file.as_os_str().to_owned();
    beside.push(".pub");
    let is_public = file.extension().is_some_and(|extension| extension == "pub");
    if !is_public && Path::new(&beside).exists() { beside.into() } else { file.into() }
}

/// The private key beside a public one, or else the public one, whose private key an agent may have.
pub(super) fn identity(public: &Path) -> PathBuf {
    let private =
        public.extension().is_some_and(|extension| extension == "pub").then(|| public.with_extension(""));
    private.filter(|private| private.exists()).unwrap_or_else(|| public.into())
}

/// Refuses what the service has no way into: only EC2 instances take keys from it.
pub(super) fn check(target: &str) -> Result<(), Error> {
    if target.starts_with("i-") {
        return Ok(());
    }
    Err(Error::Usage(format!(
        "--send-key is for EC2 instances (i-...): EC2 Instance Connect does not reach {target}, so a key has to be in its \
         authorized_keys already"
    )))
}

/// Lets the key in as `user`, for 60 seconds.
pub(super) async fn send(
    connection: &ConnectionArgs,
    target: &str,
    user: &str,
    key: &PublicKey,
) -> Result<(), Error> {
    check(target)?;
    if !USER_LEN.contains(&user.len()) || user.contains(char::is_control) {
        return Err(Error::Usage("EC2 Instance Connect takes a user of 1 to 32 characters".into()));
    }
    call(connection, target, user, key).await
}

#[cfg(feature = "aws")]
async fn call(
    connection: &ConnectionArgs,
    target: &str,
    user: &str,
    PublicKey(key): &PublicKey,
) -> Result<(), Error> {
    use aws_sdk_ec2instanceconnect::Client;
    use aws_sdk_ec2instanceconnect::error::{ProvideErrorMetadata, SdkError};
    use ssm_session::causes;

    let account = crate::options::account(connection).await?;
    let client = Client::new(account.sdk_config());
    let call = client.send_ssh_public_key().instance_id(target).instance_os_user(user).ssh_public_key(key);
    let Err(error) = call.send().await else {
        tracing::info!(target, user, "the key is let in for 60 s");
        return Ok(());
    };
    let text = error.message().unwrap_or_default();
    Err(Error::KeyNotSent(match (&error, error.code().unwrap_or_default()) {
        (_, "AuthException" | "AccessDeniedException" | "AccessDenied") => format!(
            "denied: your permissions do not allow ec2-instance-connect:SendSSHPublicKey on {target} for the user {user} ({text})"
        ),
        (_, "EC2InstanceNotFoundException") => {
            format!("there is no instance {target} in this account and region ({text})")
        }
        (_, "EC2InstanceStateInvalidException") => format!("{target} is not running ({text})"),
        (SdkError::ServiceError(_), code) => format!("{code} {text}"),
        _ => format!("EC2 Instance Connect was not reached: {}", causes(&error)),
    }))
}

#[cfg(not(feature = "aws"))]
#[expect(clippy::unused_async, reason = "the other one waits")]
async fn call(_: &ConnectionArgs, _: &str, _: &str, _: &PublicKey) -> Result<(), Error> {
    Err(Error::NeedsAws("--send-key"))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_public_key_is_one_line_of_a_known_type() {
        assert_eq!(
            PublicKey::parse(" ssh-ed25519 AAAA me@here\n"),
            Ok(PublicKey("ssh-ed25519 AAAA me@here".into()))
        );
        assert!(PublicKey::parse("ssh-rsa AAAA").is_ok());
        for (text, why) in [
            ("", "not a public key"),
            ("ssh-ed25519", "not a public key"),
            ("ssh-ed25519 A\nssh-ed25519 B", "not a public key"),
            ("ssh-ed25519 A\x1b", "not a public key"),
            ("ecdsa-sha2-nistp256 AAAA", "ssh-rsa only"),
            ("-----BEGIN OPENSSH PRIVATE KEY-----\nsecret", "stays here"),
        ] {
            assert!(PublicKey::parse(text).unwrap_err().contains(why), "{text}");
        }
        assert!(PublicKey::parse(&format!("ssh-rsa {}", "A".repeat(4096))).unwrap_err().contains("longer"));
    }

    #[test]
    fn a_private_key_leads_to_its_public_one_and_is_never_shown() {
        let folder = tempfile::tempdir().unwrap();
        let private = folder.path().join("key");
        fs::write(&private, "-----BEGIN OPENSSH PRIVATE KEY-----\nsecret\n").unwrap();
        let wrong = PublicKey::read(&private).unwrap_err().to_string();
        assert!(wrong.contains("stays here") && !wrong.contains("secret"), "{wrong}");
        fs::write(folder.path().join("key.pub"), "ssh-ed25519 AAAA\n").unwrap();
        assert_eq!(PublicKey::read(&private).unwrap(), PublicKey("ssh-ed25519 AAAA".into()));
        let absent = PublicKey::read(&folder.path().join("absent.pub")).unwrap_err().to_string();
        assert!(absent.contains("absent.pub cannot be sent"), "{absent}");
    }

    #[test]
    fn managed_nodes_and_containers_take_no_key() {
        assert!(check("i-0123456789abcdef0").is_ok());
        for target in ["mi-0123456789abcdef0", "ecs:c_1_1-2"] {
            assert!(check(target).unwrap_err().to_string().contains(target));
        }
    }
}
