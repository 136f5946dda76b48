//! Words as a shell reads them back.

/// Whether a shell takes a word for what it is, without quotes. An empty one it does not see.
pub(super) fn is_plain(word: &[u8]) -> bool {
    word.iter().all(|byte| byte.is_ascii_alphanumeric() || b"@%+=:,./_-".contains(byte))
}

/// A word in quotes.
pub(super) fn quoted(word: &[u8]) -> Vec<u8> {
    let mut quoted = vec![b'\''];
    for &byte in word {
        match byte {
            // Out of the quotes, the quote itself, and in again: so it is in every shell.
            b'\'' => quoted.extend_from_slice(br"'\''"),
            byte => quoted.push(byte),
        }
    }
    quoted.push(b'\'');
    quoted
}
