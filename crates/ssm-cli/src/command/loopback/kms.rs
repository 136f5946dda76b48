//! A KMS elsewhere, for the loopback's agent.

use aws_sdk_kms::error::ProvideErrorMetadata as _;
use aws_sdk_kms::primitives::Blob;
use ssm_loopback::{KmsAnswer, KmsAuthority};
use ssm_session::Secret;

use crate::args::ConnectionArgs;
use crate::options;

/// KMS at this URL, with the credentials of the environment: what its role is to an agent.
#[derive(Debug)]
pub(super) struct Elsewhere {
    url: String,
}

impl Elsewhere {
    pub(super) fn new(url: String) -> Self {
        Self { url }
    }
}

impl KmsAuthority for Elsewhere {
    fn decrypt(
        &self,
        key_id: String,
        ciphertext: Vec<u8>,
        context: Vec<(&'static str, String)>,
    ) -> KmsAnswer {
        let url = self.url.clone();
        Box::pin(async move {
            let account = options::account(&ConnectionArgs::default()).await;
            let account = account.map_err(|error| error.to_string())?;
            let config = aws_sdk_kms::config::Builder::from(account.sdk_config()).endpoint_url(url).build();
            let context = context.into_iter().map(|(name, value)| (name.to_owned(), value));
            let answer = aws_sdk_kms::Client::from_conf(config)
                .decrypt()
                .key_id(key_id)
                .ciphertext_blob(Blob::new(ciphertext))
                .set_encryption_context(Some(context.collect()))
                .send()
                .await
                .map_err(|error| {
                    format!(
                        "{}: {}",
                        error.code().unwrap_or("Unreachable"),
                        error.message().unwrap_or_default()
                    )
                })?;
            answer.plaintext.map(|key| Secret::new(key.into_inner())).ok_or_else(|| "no key".into())
        })
    }
}
