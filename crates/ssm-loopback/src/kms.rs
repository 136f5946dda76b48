//! A KMS with one key: makes data keys, and decrypts those that it made.
//!
//! The answers are those of AWS's KMS in its JSON 1.1 form, as far as Session Manager asks: `GenerateDataKey` by a client,
//! `Decrypt` by an agent, both with the same encryption context.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};
use ssm_channel::{DATA_KEY_LEN, KeyRequest};
use ssm_proto::Secret;

use crate::api::{ApiError, parse};
use crate::random;

/// How `X-Amz-Target` begins for KMS.
pub(crate) const TARGET: &str = "TrentService.";

/// Data keys that are remembered; the oldest is forgotten first.
const KEYS_MAX: usize = 1024;

/// Bytes of an encryption context that are taken, names and values together; as many as AWS's KMS takes.
const CONTEXT_MAX: usize = 8 * 1024;

/// Bytes of an encrypted data key, about as many as KMS makes.
const CIPHERTEXT_LEN: usize = 184;

/// Encryption of shells and commands, as an account's session preferences can ask for it.
#[derive(Debug, Clone)]
pub struct Kms {
    /// The KMS key.
    pub key_id: String,
    /// What agents do about the random challenge.
    pub challenge: KmsChallenge,
    /// Who decrypts data keys for the agents: `None` for the loopback's own KMS, which is at the same URL as everything else.
    pub authority: Option<Arc<dyn KmsAuthority>>,
}

/// The random challenge in the encryption context.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KmsChallenge {
    /// As agents before 3.3.808.
    Absent,
    /// As agents from 3.3.808: clients may leave it out.
    Offered,
    /// As those with `Kms.RequireKMSChallengeResponse`.
    Required,
}

/// A KMS somewhere else, as the role of a node uses it.
pub trait KmsAuthority: Send + Sync + fmt::Debug {
    /// `Decrypt` with this key and context; the data key, or why there is none.
    fn decrypt(&self, key_id: String, ciphertext: Vec<u8>, context: Vec<(&'static str, String)>)
    -> KmsAnswer;
}

/// What a [`KmsAuthority`] will have decrypted.
pub type KmsAnswer = Pin<Box<dyn Future<Output = Result<Secret<Vec<u8>>, String>> + Send>>;

/// The data keys that were made here.
#[derive(Default)]
pub(crate) struct KeyStore(Mutex<VecDeque<Made>>);

impl fmt::Debug for KeyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyStore(..)")
    }
}

struct Made {
    ciphertext: Vec<u8>,
    plaintext: Secret<[u8; DATA_KEY_LEN]>,
    context: BTreeMap<String, String>,
}

impl KeyStore {
    /// Makes a data key for this context.
    pub(crate) fn generate(
        &self,
        context: BTreeMap<String, String>,
    ) -> (Secret<[u8; DATA_KEY_LEN]>, Vec<u8>) {
        let plaintext = Secret::new(random::bytes::<DATA_KEY_LEN>());
        let ciphertext = random::bytes::<CIPHERTEXT_LEN>().to_vec();
        let mut made = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if made.len() == KEYS_MAX {
            made.pop_front();
        }
        made.push_back(Made { ciphertext: ciphertext.clone(), plaintext: plaintext.clone(), context });
        (plaintext, ciphertext)
    }

    /// The data key, if it was made here and for this context.
    pub(crate) fn decrypt(
        &self,
        ciphertext: &[u8],
        context: &BTreeMap<String, String>,
    ) -> Option<Secret<[u8; DATA_KEY_LEN]>> {
        let made = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = made.iter().find(|made| made.ciphertext == ciphertext && made.context == *context)?;
        Some(key.plaintext.clone())
    }

    /// What an agent does with the key of a session.
    pub(crate) fn decrypt_for_agent(
        &self,
        request: &KeyRequest,
        session_id: &str,
        target: &str,
    ) -> Result<Secret<Vec<u8>>, String> {
        let context = request.context(session_id, target);
        let context = context.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        let key = self.decrypt(&request.ciphertext, &context).ok_or("InvalidCiphertextException")?;
        Ok(Secret::new(key.expose().to_vec()))
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Request {
    key_id: Option<String>,
    number_of_bytes: Option<usize>,
    ciphertext_blob: Option<String>,
    #[serde(default)]
    encryption_context: Option<BTreeMap<String, String>>,
}

/// Runs an operation on the key of `kms`.
pub(crate) fn call(
    kms: Option<&Kms>,
    store: &KeyStore,
    operation: &str,
    body: &[u8],
) -> Result<Value, ApiError> {
    let request: Request = parse(body)?;
    let context = request.encryption_context.unwrap_or_default();
    if context.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>() > CONTEXT_MAX {
        let message = format!("an encryption context has {CONTEXT_MAX} bytes at most");
        return Err(ApiError::new("ValidationException", message));
    }
    let own = kms.filter(|kms| request.key_id.as_ref().is_none_or(|id| *id == kms.key_id));
    let known = || {
        let id = request.key_id.as_deref().unwrap_or_default();
        own.ok_or_else(|| ApiError::new("NotFoundException", format!("Key '{id}' does not exist")))
    };
    match operation {
        "GenerateDataKey" => {
            let key_id = &known()?.key_id;
            if request.number_of_bytes != Some(DATA_KEY_LEN) {
                let message = format!("a data key of a session has {DATA_KEY_LEN} bytes");
                return Err(ApiError::new("ValidationException", message));
            }
            let (plaintext, ciphertext) = store.generate(context);
            Ok(json!({
                "KeyId": key_id,
                "Plaintext": BASE64_STANDARD.encode(plaintext.expose()),
                "CiphertextBlob": BASE64_STANDARD.encode(ciphertext),
            }))
        }
        "Decrypt" => {
            let key_id = &known()?.key_id;
            let ciphertext = BASE64_STANDARD.decode(request.ciphertext_blob.unwrap_or_default());
            let key = ciphertext.ok().and_then(|ciphertext| store.decrypt(&ciphertext, &context));
            let key = key.ok_or_else(|| ApiError::new("InvalidCiphertextException", ""))?;
            Ok(json!({
                "KeyId": key_id,
                "Plaintext": BASE64_STANDARD.encode(key.expose()),
                "EncryptionAlgorithm": "SYMMETRIC_DEFAULT",
            }))
        }
        _ => {
            Err(ApiError::new("UnknownOperationException", "the loopback's KMS makes and decrypts data keys"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kms() -> Kms {
        Kms { key_id: "alias/k".into(), challenge: KmsChallenge::Offered, authority: None }
    }

    fn ask(store: &KeyStore, operation: &str, body: Value) -> Result<Value, &'static str> {
        call(Some(&kms()), store, operation, body.to_string().as_bytes()).map_err(|error| error.code)
    }

    #[test]
    fn a_data_key_is_decrypted_in_its_own_context_only() {
        let store = KeyStore::default();
        let context = json!({ "aws:ssm:SessionId": "s" });
        let made = json!({ "KeyId": "alias/k", "NumberOfBytes": 64, "EncryptionContext": context });
        let made = ask(&store, "GenerateDataKey", made).unwrap();
        let decrypt = |context: &Value| {
            let request = json!({ "CiphertextBlob": made["CiphertextBlob"], "EncryptionContext": context });
            ask(&store, "Decrypt", request)
        };
        assert_eq!(decrypt(&context).unwrap()["Plaintext"], made["Plaintext"]);
        assert_eq!(decrypt(&json!({})), Err("InvalidCiphertextException"));
    }

    #[test]
    fn only_its_own_key_is_known() {
        let store = KeyStore::default();
        let other = json!({ "KeyId": "alias/other", "NumberOfBytes": 64 });
        assert_eq!(ask(&store, "GenerateDataKey", other), Err("NotFoundException"));
        let short = json!({ "KeyId": "alias/k", "NumberOfBytes": 32 });
        assert_eq!(ask(&store, "GenerateDataKey", short), Err("ValidationException"));
    }

    #[test]
    fn a_context_is_bounded() {
        let store = KeyStore::default();
        let generate = |len: usize| {
            let context = json!({ "name": "x".repeat(len - 4) });
            let request = json!({ "KeyId": "alias/k", "NumberOfBytes": 64, "EncryptionContext": context });
            ask(&store, "GenerateDataKey", request).map(drop)
        };
        assert_eq!(generate(CONTEXT_MAX), Ok(()));
        assert_eq!(generate(CONTEXT_MAX + 1), Err("ValidationException"));
    }

    #[test]
    fn old_keys_are_forgotten() {
        let store = KeyStore::default();
        let (_, first) = store.generate(BTreeMap::new());
        for _ in 0..KEYS_MAX {
            store.generate(BTreeMap::new());
        }
        assert!(store.decrypt(&first, &BTreeMap::new()).is_none());
    }
}
