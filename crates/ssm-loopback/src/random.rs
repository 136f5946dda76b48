//! Names and secrets from the system's randomness.

use zeroize::Zeroizing;

/// Upper-case base32, as in AWS access key ids.
pub(crate) const BASE32: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
/// Lower-case letters and digits of session id suffixes.
pub(crate) const SUFFIX: &[u8; 32] = b"0123456789abcdefghijkmnpqrstuvxy";
/// Base64 alphabet of AWS secret access keys.
pub(crate) const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
/// Base64 alphabet that needs no escaping in URLs and JSON, for tokens.
pub(crate) const BASE64_URL: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// `len` characters drawn evenly from `alphabet`, whose size is a power of two.
pub(crate) fn text<const N: usize>(alphabet: &[u8; N], len: usize) -> String {
    const { assert!(N.is_power_of_two() && N <= 256) };
    let mut seed = Zeroizing::new(vec![0; len]);
    fill(&mut seed);
    seed.iter().map(|byte| char::from(alphabet[usize::from(*byte) & (N - 1)])).collect()
}

/// Random bytes.
pub(crate) fn bytes<const N: usize>() -> [u8; N] {
    let mut out = [0; N];
    fill(&mut out);
    out
}

/// # Panics
/// When the system has no source of randomness: nothing here would be safe without one.
fn fill(out: &mut [u8]) {
    getrandom::fill(out).expect("the system provides randomness");
}
