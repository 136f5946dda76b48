//! What tells that a copy is the same: SHA-256, or POSIX's cksum for a machine that has nothing better.

use sha2::{Digest as _, Sha256};

use crate::output::hex;

/// A digest under way.
#[derive(Debug, Clone)]
pub(super) enum Digest {
    Sha256(Box<Sha256>),
    Cksum { crc: u32, len: u64 },
}

/// The polynomial of POSIX's cksum (POSIX.1-2017, `cksum`).
const POLYNOMIAL: u32 = 0x04c1_1db7;

impl Digest {
    /// The one that the far side calls so.
    pub(super) fn named(name: &str) -> Option<Self> {
        match name {
            "sha256" => Some(Self::Sha256(Box::default())),
            "cksum" => Some(Self::Cksum { crc: 0, len: 0 }),
            _ => None,
        }
    }

    pub(super) fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(sha256) => sha256.update(bytes),
            Self::Cksum { crc, len } => {
                *crc = bytes.iter().fold(*crc, |crc, byte| next(crc, *byte));
                *len += bytes.len() as u64;
            }
        }
    }

    /// As the far side writes it.
    pub(super) fn text(&self) -> String {
        match self {
            Self::Sha256(sha256) => hex(&Sha256::clone(sha256).finalize()),
            Self::Cksum { crc, len } => {
                let (mut crc, mut len) = (*crc, *len);
                while len > 0 {
                    crc = next(crc, len.to_le_bytes()[0]);
                    len >>= 8;
                }
                (!crc).to_string()
            }
        }
    }
}

fn next(crc: u32, byte: u8) -> u32 {
    TABLE[usize::from(crc.to_be_bytes()[0] ^ byte)] ^ (crc << 8)
}

static TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        let mut crc = (index as u32) << 24;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 0x8000_0000 != 0 { (crc << 1) ^ POLYNOMIAL } else { crc << 1 };
            bit += 1;
        }
        table[index] = crc;
        index += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &str, bytes: &[u8]) -> String {
        let mut digest = Digest::named(name).unwrap();
        bytes.chunks(7).for_each(|part| digest.update(part));
        digest.text()
    }

    #[test]
    fn digests_are_those_of_the_programs() {
        // Of `printf 123456789 | cksum` and `sha256sum`.
        assert_eq!(of("cksum", b"123456789"), "930766865");
        assert_eq!(of("cksum", b""), "4294967295");
        assert_eq!(
            of("sha256", b"123456789"),
            "15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225"
        );
    }
}
