//! Sessions encrypted with a KMS key: the data key, and AES-256-GCM over payloads.
//!
//! ```text
//! data key  | 0..32: agent encrypts, client decrypts | 32..64: client encrypts, agent decrypts |
//! payload   | nonce (12) | ciphertext | tag (16) |
//! ```
//! (plugin `encryption/encrypter.go`, agent `crypto/blockcipher.go`). There is no associated data.

use std::fmt;

use ssm_proto::{PayloadType, Secret};

#[cfg(feature = "encryption")]
pub(crate) use aes_gcm::Cipher;
#[cfg(not(feature = "encryption"))]
pub(crate) use without::Cipher;

/// Bytes of a data key, for both directions (plugin `kmsservice.go` `KMSKeySizeInBytes`).
pub const DATA_KEY_LEN: usize = 64;

/// Whether this build can encrypt.
pub(crate) const IS_SUPPORTED: bool = cfg!(feature = "encryption");

/// Bytes of a nonce.
pub(crate) const NONCE_LEN: usize = 12;

/// What an encrypted session needs from KMS before it starts.
///
/// A client has it made there (`GenerateDataKey` with [`DATA_KEY_LEN`] bytes), an agent has the client's decrypted (`Decrypt`); both
/// with the encryption context of [`context`](Self::context).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRequest {
    /// The KMS key: an ARN, an id or an alias.
    pub key_id: String,
    /// A text of the agent that goes into the context (agents from 3.3.808, clients that know of it).
    pub challenge: Option<String>,
    /// The data key as KMS has encrypted it, for an agent to have decrypted. Empty for a client.
    pub ciphertext: Vec<u8>,
}

impl KeyRequest {
    /// The encryption context, by name: what KMS is told when the key is made has to be told again when it is decrypted.
    ///
    /// `target` is what the session was started on, as StartSession got it; an agent says its own node id. Where the two differ, KMS
    /// refuses (plugin `streaming.go` `handleKMSEncryptionRequest`, agent `blockcipher.go` `UpdateEncryptionKey`).
    pub fn context(&self, session_id: &str, target: &str) -> Vec<(&'static str, String)> {
        let mut context =
            vec![("aws:ssm:SessionId", session_id.to_owned()), ("aws:ssm:TargetId", target.to_owned())];
        if let Some(challenge) = &self.challenge {
            context.push(("aws:ssm:RandomChallenge", challenge.clone()));
        }
        context
    }
}

/// The answer to a [`KeyRequest`].
#[derive(Debug, Clone)]
pub struct DataKey {
    #[cfg_attr(not(feature = "encryption"), expect(dead_code, reason = "for the cipher"))]
    plaintext: Secret<[u8; DATA_KEY_LEN]>,
    ciphertext: Vec<u8>,
}

impl DataKey {
    /// A key in the clear, and as KMS has encrypted it. The copy in `plaintext` is the caller's to wipe.
    ///
    /// # Errors
    ///
    /// When `plaintext` is not [`DATA_KEY_LEN`] bytes long.
    pub fn new(plaintext: &[u8], ciphertext: Vec<u8>) -> Result<Self, DataKeyLength> {
        match <[u8; DATA_KEY_LEN]>::try_from(plaintext) {
            Ok(key) => Ok(Self { plaintext: Secret::new(key), ciphertext }),
            Err(_) => Err(DataKeyLength(plaintext.len())),
        }
    }

    /// The key as KMS has encrypted it.
    pub fn ciphertext(&self) -> &[u8] {
        &self.ciphertext
    }
}

/// A data key has another length than it has to have: this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DataKeyLength(pub usize);

impl fmt::Display for DataKeyLength {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the data key has {} bytes in place of {DATA_KEY_LEN}", self.0)
    }
}

impl std::error::Error for DataKeyLength {}

/// A payload that was not encrypted with the session's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Undecryptable;

/// Whether payloads of this type are encrypted in the direction of `output`; all others are in the clear (agent `datachannel.go`
/// `SendStreamDataMessage`, plugin `streaming.go` `SendInputDataMessage`).
pub(crate) fn is_encrypted(kind: PayloadType, output: bool) -> bool {
    kind == PayloadType::Output || (output && matches!(kind, PayloadType::StdErr | PayloadType::ExitCode))
}

#[cfg(feature = "encryption")]
mod aes_gcm {
    use std::fmt;

    use bytes::{Bytes, BytesMut};
    use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
    use ssm_proto::MessageBuf;

    use super::{DATA_KEY_LEN, DataKey, NONCE_LEN, Undecryptable};
    use crate::Role;

    /// What encryption adds to a payload: nonce and tag.
    pub(super) const OVERHEAD: usize = NONCE_LEN + 16;

    /// Encrypts what one role sends and decrypts what it receives.
    pub(crate) struct Cipher {
        seal: LessSafeKey,
        open: LessSafeKey,
        /// Counts up from where it began, so that none comes twice under one key.
        nonce: u128,
    }

    impl fmt::Debug for Cipher {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("Cipher(..)")
        }
    }

    impl Cipher {
        /// The cipher of `role`, if this build can encrypt. `nonce` is where its nonces begin, which has to be random.
        pub(crate) fn new(role: Role, key: &DataKey, nonce: [u8; NONCE_LEN]) -> Option<Self> {
            let (agent, client) = key.plaintext.expose().split_at(DATA_KEY_LEN / 2);
            let key = |bytes| Some(LessSafeKey::new(UnboundKey::new(&AES_256_GCM, bytes).ok()?));
            let (seal, open) = match role {
                Role::Client => (key(client)?, key(agent)?),
                Role::Agent => (key(agent)?, key(client)?),
            };
            let mut start = [0; 16];
            start[..NONCE_LEN].copy_from_slice(&nonce);
            Some(Self { seal, open, nonce: u128::from_le_bytes(start) })
        }

        /// Encrypts a payload where it is.
        pub(crate) fn seal(&mut self, payload: &mut MessageBuf) {
            let mut nonce = [0; NONCE_LEN];
            nonce.copy_from_slice(&self.nonce.to_le_bytes()[..NONCE_LEN]);
            self.nonce = self.nonce.wrapping_add(1);
            let tag = self
                .seal
                .seal_in_place_separate_tag(
                    Nonce::assume_unique_for_key(nonce),
                    Aad::empty(),
                    payload.payload_mut(),
                )
                .expect("a payload is far shorter than what AES-GCM can encrypt");
            payload.append(tag.as_ref());
            payload.prepend(&nonce);
        }

        /// Decrypts a payload, in memory of its own: the frame it came in shares the read buffer.
        pub(crate) fn open(&self, payload: &[u8]) -> Result<Bytes, Undecryptable> {
            if payload.len() < OVERHEAD {
                return Err(Undecryptable);
            }
            let (nonce, sealed) = payload.split_at(NONCE_LEN);
            let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| Undecryptable)?;
            let mut sealed = BytesMut::from(sealed);
            let opened =
                self.open.open_in_place(nonce, Aad::empty(), &mut sealed).map_err(|_| Undecryptable)?;
            let len = opened.len();
            sealed.truncate(len);
            Ok(sealed.freeze())
        }
    }
}

/// A build that cannot encrypt has no ciphers.
#[cfg(not(feature = "encryption"))]
mod without {
    use bytes::Bytes;
    use ssm_proto::MessageBuf;

    use super::{DataKey, NONCE_LEN, Undecryptable};
    use crate::Role;

    #[derive(Debug)]
    pub(crate) enum Cipher {}

    impl Cipher {
        pub(crate) fn new(_: Role, _: &DataKey, _: [u8; NONCE_LEN]) -> Option<Self> {
            None
        }

        pub(crate) fn seal(&mut self, _: &mut MessageBuf) {
            match *self {}
        }

        pub(crate) fn open(&self, _: &[u8]) -> Result<Bytes, Undecryptable> {
            match *self {}
        }
    }
}

#[cfg(all(test, feature = "encryption"))]
mod tests {
    use ssm_proto::MessageBuf;

    use super::aes_gcm::OVERHEAD;
    use super::*;
    use crate::Role;

    fn key() -> DataKey {
        let bytes: Vec<u8> = (0..DATA_KEY_LEN as u8).collect();
        DataKey::new(&bytes, Vec::new()).expect("64 bytes")
    }

    fn sealed(cipher: &mut Cipher, text: &[u8]) -> Vec<u8> {
        let mut buf = MessageBuf::with_capacity(text.len());
        buf.put_slice(text);
        cipher.seal(&mut buf);
        buf.payload().to_vec()
    }

    /// The vector of the protocol notes: key 00..1f, nonce 00..0b.
    #[test]
    fn item_65_a_known_message_comes_out_as_known() {
        let nonce: Vec<u8> = (0..12).collect();
        let mut agent = Cipher::new(Role::Agent, &key(), nonce.try_into().unwrap()).unwrap();
        let expected = [
            0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x09, 0x0a, 0x0b, 0x26, 0x60, 0xb5, 0x53,
            0x96, 0x77, 0x12, 0x5a, 0x57, 0x1f, 0x57, 0x1a, 0xda, 0x45, 0x6e, 0x85, 0x76, 0x9a, 0x43,
        ];
        assert_eq!(sealed(&mut agent, b"abc"), expected);
    }

    #[test]
    fn item_65_each_role_reads_the_other_and_not_itself() {
        let mut client = Cipher::new(Role::Client, &key(), [1; 12]).unwrap();
        let mut agent = Cipher::new(Role::Agent, &key(), [1; 12]).unwrap();
        let (up, down) = (sealed(&mut client, b"typed"), sealed(&mut agent, b"printed"));
        assert_eq!(&agent.open(&up).unwrap()[..], b"typed");
        assert_eq!(&client.open(&down).unwrap()[..], b"printed");
        assert_eq!(client.open(&up), Err(Undecryptable));
        assert_eq!(agent.open(&down), Err(Undecryptable));
    }

    #[test]
    fn no_nonce_comes_twice() {
        let mut cipher = Cipher::new(Role::Client, &key(), [0xff; 12]).unwrap();
        let nonces: std::collections::BTreeSet<Vec<u8>> =
            (0..1000).map(|_| sealed(&mut cipher, b"x")[..NONCE_LEN].to_vec()).collect();
        assert_eq!(nonces.len(), 1000);
    }

    #[test]
    fn what_was_changed_or_cut_is_refused() {
        let client = Cipher::new(Role::Client, &key(), [1; 12]).unwrap();
        let mut agent = Cipher::new(Role::Agent, &key(), [1; 12]).unwrap();
        let good = sealed(&mut agent, b"printed");
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            assert_eq!(client.open(&bad), Err(Undecryptable), "bit of byte {at}");
            assert_eq!(client.open(&good[..at]), Err(Undecryptable), "cut to {at}");
        }
        assert_eq!(client.open(b"printed in the clear, which is long enough"), Err(Undecryptable));
    }

    #[test]
    fn nothing_can_be_encrypted_too() {
        let client = Cipher::new(Role::Client, &key(), [1; 12]).unwrap();
        let mut agent = Cipher::new(Role::Agent, &key(), [1; 12]).unwrap();
        let sealed = sealed(&mut agent, b"");
        assert_eq!(sealed.len(), OVERHEAD);
        assert_eq!(client.open(&sealed).unwrap(), "");
    }

    #[test]
    fn encryption_needs_no_other_memory() {
        let mut slab = ssm_proto::Slab::default();
        let mut buf = slab.take(1024);
        buf.put_slice(b"typed");
        slab.reclaim(&mut buf);
        let at = buf.payload().as_ptr();
        Cipher::new(Role::Client, &key(), [1; 12]).unwrap().seal(&mut buf);
        assert_eq!(buf.payload()[NONCE_LEN..].as_ptr(), at);
        assert_eq!(buf.len(), 5 + OVERHEAD);
    }

    #[test]
    fn a_key_of_another_length_is_refused_and_none_is_printed() {
        let error = DataKey::new(&[0; 32], Vec::new()).unwrap_err();
        assert_eq!(error, DataKeyLength(32));
        assert_eq!(error.to_string(), "the data key has 32 bytes in place of 64");
        assert!(!format!("{:?}", key()).contains("63"));
        assert_eq!(format!("{:?}", Cipher::new(Role::Client, &key(), [1; 12])), "Some(Cipher(..))");
    }
}
