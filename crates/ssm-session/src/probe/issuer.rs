//! Who says that a certificate is right, read out of the certificate (RFC 5280 section 4.1).
//!
//! ```text
//! Certificate ::= SEQUENCE { TBSCertificate ::= SEQUENCE {
//!     [0] version OPTIONAL, INTEGER serialNumber, SEQUENCE signature, issuer Name, ... } ... }
//! Name ::= SEQUENCE OF SET OF SEQUENCE { OBJECT IDENTIFIER type, value }
//! ```
//!
//! For people, and for nothing else: nobody has checked what is read here.

/// Longest issuer that is shown, in characters.
const SHOWN_MAX: usize = 100;

const INTEGER: u8 = 0x02;
const OBJECT_IDENTIFIER: u8 = 0x06;
const UTF8_STRING: u8 = 0x0c;
const PRINTABLE_STRING: u8 = 0x13;
const TELETEX_STRING: u8 = 0x14;
const IA5_STRING: u8 = 0x16;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const VERSION: u8 = 0xa0;

/// `id-at-commonName` and `id-at-organizationName`.
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
const ORGANIZATION: &[u8] = &[0x55, 0x04, 0x0a];

/// The common name and the organization of the issuer, as far as there are any.
pub(super) fn of(certificate: &[u8]) -> Option<String> {
    let (certificate, _) = element(certificate, SEQUENCE)?;
    let (signed, _) = element(certificate, SEQUENCE)?;
    let rest = element(signed, VERSION).map_or(signed, |(_, rest)| rest);
    let (_serial, rest) = element(rest, INTEGER)?;
    let (_algorithm, rest) = element(rest, SEQUENCE)?;
    let (mut name, _) = element(rest, SEQUENCE)?;
    let (mut common_name, mut organization) = (None, None);
    while let Some((set, rest)) = element(name, SET) {
        name = rest;
        let Some((attribute, _)) = element(set, SEQUENCE) else { continue };
        let Some((kind, value)) = element(attribute, OBJECT_IDENTIFIER) else { continue };
        match kind {
            COMMON_NAME => common_name = text(value),
            ORGANIZATION => organization = text(value),
            _ => {}
        }
    }
    match (common_name, organization) {
        (Some(name), Some(organization)) if name != organization => Some(format!("{name} ({organization})")),
        (Some(name), _) | (None, Some(name)) => Some(name),
        (None, None) => None,
    }
}

fn text(value: &[u8]) -> Option<String> {
    let read = [UTF8_STRING, PRINTABLE_STRING, TELETEX_STRING, IA5_STRING].into_iter();
    let (bytes, _) = read.filter_map(|tag| element(value, tag)).next()?;
    let text: String = String::from_utf8_lossy(bytes).chars().take(SHOWN_MAX).collect();
    (!text.is_empty()).then_some(text)
}

/// What is in an element of this type (X.690 section 8.1, definite lengths of up to four bytes), and what comes behind it.
fn element(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&found, rest) = bytes.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x84 => {
            let (length, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (length.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    (found == tag).then(|| rest.split_at_checked(length)).flatten()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

    use super::*;

    fn issued(names: &[(DnType, &str)]) -> Vec<u8> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name = rcgen::DistinguishedName::new();
        for (kind, name) in names {
            params.distinguished_name.push(kind.clone(), *name);
        }
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let params = CertificateParams::new(vec!["a.example".into()]).unwrap();
        let signed = params.signed_by(&KeyPair::generate().unwrap(), &issuer).unwrap();
        signed.der().to_vec()
    }

    #[test]
    fn the_issuer_is_named_and_not_the_subject() {
        let both = [(DnType::OrganizationName, "Corp Ltd."), (DnType::CommonName, "Corp Inspection CA")];
        assert_eq!(of(&issued(&both)).as_deref(), Some("Corp Inspection CA (Corp Ltd.)"));
        assert_eq!(of(&issued(&both[..1])).as_deref(), Some("Corp Ltd."));
        assert_eq!(of(&issued(&both[1..])).as_deref(), Some("Corp Inspection CA"));
        assert_eq!(of(&issued(&[(DnType::CommonName, "Prüfstelle")])).as_deref(), Some("Prüfstelle"));
        assert_eq!(of(&issued(&[(DnType::CountryName, "DE")])), None);
    }

    #[test]
    fn a_part_of_a_certificate_does_no_harm() {
        let whole = issued(&[(DnType::CommonName, "Corp")]);
        for end in 0..whole.len() {
            let _ = of(&whole[..end]);
        }
        assert_eq!(of(&[]), None);
    }

    proptest! {
        #[test]
        fn any_bytes_do_no_harm(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = of(&bytes);
        }
    }
}
