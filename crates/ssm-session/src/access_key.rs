//! What can be told of credentials: never the secret, and of the key id its ends.

use std::time::SystemTime;

use aws_credential_types::Credentials;
use aws_credential_types::credential_feature::AwsCredentialFeature;

/// How much of a key id is shown in front and behind.
const SHOWN: usize = 4;

/// Who asks, without what would let others ask in their name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessKey {
    /// The id, with most of it left out: `AKIA...WXYZ`.
    pub id: String,
    /// Where it comes from, in words.
    pub source: String,
    /// When it stops being good; `None` for one that is good until somebody revokes it.
    pub expires: Option<SystemTime>,
}

impl AccessKey {
    pub(crate) fn of(credentials: &Credentials) -> Self {
        Self {
            id: shortened(credentials.access_key_id()),
            source: source(credentials),
            expires: credentials.expiry(),
        }
    }
}

fn shortened(id: &str) -> String {
    let chars: Vec<char> = id.chars().collect();
    match chars.len() {
        // Of a short one, which is none of AWS's, not even the ends.
        0..=8 => "...".into(),
        length => {
            let (front, behind) = (&chars[..SHOWN], &chars[length - SHOWN..]);
            front.iter().collect::<String>() + "..." + &behind.iter().collect::<String>()
        }
    }
}

/// The features that the SDK has used are the steps it has gone, the first one first.
fn source(credentials: &Credentials) -> String {
    let features = credentials.get_property::<Vec<AwsCredentialFeature>>().map_or(&[][..], Vec::as_slice);
    let mut words: Vec<&str> = Vec::new();
    for word in features.iter().filter_map(step) {
        if !words.contains(&word) {
            words.push(word);
        }
    }
    if words.is_empty() { "the default chain".into() } else { words.join(", ") }
}

fn step(feature: &AwsCredentialFeature) -> Option<&'static str> {
    use AwsCredentialFeature as Feature;
    Some(match feature {
        Feature::CredentialsEnvVars => "the environment",
        Feature::CredentialsProfile
        | Feature::CredentialsProfileSourceProfile
        | Feature::CredentialsProfileNamedProvider => "the profile",
        Feature::CredentialsProfileSso | Feature::CredentialsSso => "single sign-on",
        Feature::CredentialsProfileProcess | Feature::CredentialsProcess => "a program of the profile",
        Feature::CredentialsProfileLogin | Feature::CredentialsLogin => "`aws login`",
        Feature::CredentialsStsAssumeRole | Feature::CredentialsStsAssumeRoleSaml => "an assumed role",
        Feature::CredentialsStsAssumeRoleWebId
        | Feature::CredentialsEnvVarsStsWebIdToken
        | Feature::CredentialsProfileStsWebIdToken => "a role for a web identity",
        Feature::CredentialsStsSessionToken | Feature::CredentialsStsFederationToken => "a session of STS",
        Feature::CredentialsHttp => "the container",
        Feature::CredentialsImds => "the instance",
        Feature::CredentialsCode => "the command line",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_key_id_only_the_ends_are_shown() {
        assert_eq!(shortened("AKIAIOSFODNN7EXAMPLE"), "AKIA...MPLE");
        for short in ["", "test", "12345678"] {
            assert_eq!(shortened(short), "...");
        }
    }

    #[test]
    fn the_way_of_credentials_is_told_without_their_secret() {
        let mut credentials =
            Credentials::new("AKIAIOSFODNN7EXAMPLE", "hush", Some("hush".into()), None, "test");
        assert_eq!(AccessKey::of(&credentials).source, "the default chain");
        credentials.set_property(vec![
            AwsCredentialFeature::CredentialsProfile,
            AwsCredentialFeature::CredentialsProfileSourceProfile,
            AwsCredentialFeature::CredentialsStsAssumeRole,
            AwsCredentialFeature::ResolvedAccountId,
        ]);
        let key = AccessKey::of(&credentials);
        assert_eq!(key.source, "the profile, an assumed role");
        assert!(!format!("{key:?}").contains("hush"));
    }
}
