//! The authentication schemes: which are available, which ids they accept, and how an auth packet is answered. Mirrors
//! `ProviderRegistry`, `DigestAuthenticationProvider`, `IPAuthenticationProvider`, `EnsembleAuthenticationProvider` and
//! `AuthUtil`.

use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest, Sha1};
use sha2::{Sha224, Sha256, Sha384, Sha512, Sha512_224, Sha512_256};
use sha3::{Sha3_224, Sha3_256, Sha3_384, Sha3_512};
use thiserror::Error;

use crate::types::Id;
use crate::types::acl::IpPattern;

/// The hash of the `digest` scheme (`DigestAuthenticationProvider.digestAlg`). All hashes of the JDK's `MessageDigest`
/// except MD2 and MD5, which are broken.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[allow(missing_docs)]
pub enum DigestAlg {
    #[default]
    Sha1,
    Sha224,
    Sha256,
    Sha384,
    Sha512,
    Sha512_224,
    Sha512_256,
    Sha3_224,
    Sha3_256,
    Sha3_384,
    Sha3_512,
}

/// The value of `digestAlg` is not the name of a supported hash.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("digest algorithm {0:?} is not available: write {names}", names = DigestAlg::ALL.map(DigestAlg::name).join(", "))]
pub struct UnknownDigestAlg(String);

impl DigestAlg {
    /// All hashes.
    pub const ALL: [DigestAlg; 11] = [
        DigestAlg::Sha1,
        DigestAlg::Sha224,
        DigestAlg::Sha256,
        DigestAlg::Sha384,
        DigestAlg::Sha512,
        DigestAlg::Sha512_224,
        DigestAlg::Sha512_256,
        DigestAlg::Sha3_224,
        DigestAlg::Sha3_256,
        DigestAlg::Sha3_384,
        DigestAlg::Sha3_512,
    ];

    /// The name in Java's documentation.
    pub fn name(self) -> &'static str {
        match self {
            DigestAlg::Sha1 => "SHA1",
            DigestAlg::Sha224 => "SHA-224",
            DigestAlg::Sha256 => "SHA-256",
            DigestAlg::Sha384 => "SHA-384",
            DigestAlg::Sha512 => "SHA-512",
            DigestAlg::Sha512_224 => "SHA-512/224",
            DigestAlg::Sha512_256 => "SHA-512/256",
            DigestAlg::Sha3_224 => "SHA3-224",
            DigestAlg::Sha3_256 => "SHA3-256",
            DigestAlg::Sha3_384 => "SHA3-384",
            DigestAlg::Sha3_512 => "SHA3-512",
        }
    }

    /// The hash of `bytes` in base64.
    fn encoded(self, bytes: &[u8]) -> String {
        match self {
            DigestAlg::Sha1 => STANDARD.encode(Sha1::digest(bytes)),
            DigestAlg::Sha224 => STANDARD.encode(Sha224::digest(bytes)),
            DigestAlg::Sha256 => STANDARD.encode(Sha256::digest(bytes)),
            DigestAlg::Sha384 => STANDARD.encode(Sha384::digest(bytes)),
            DigestAlg::Sha512 => STANDARD.encode(Sha512::digest(bytes)),
            DigestAlg::Sha512_224 => STANDARD.encode(Sha512_224::digest(bytes)),
            DigestAlg::Sha512_256 => STANDARD.encode(Sha512_256::digest(bytes)),
            DigestAlg::Sha3_224 => STANDARD.encode(Sha3_224::digest(bytes)),
            DigestAlg::Sha3_256 => STANDARD.encode(Sha3_256::digest(bytes)),
            DigestAlg::Sha3_384 => STANDARD.encode(Sha3_384::digest(bytes)),
            DigestAlg::Sha3_512 => STANDARD.encode(Sha3_512::digest(bytes)),
        }
    }
}

impl FromStr for DigestAlg {
    type Err = UnknownDigestAlg;
    /// Parses the names that Java's `MessageDigest` accepts, in any case: `SHA` is SHA1, and the SHA-2 names may omit
    /// their hyphen.
    fn from_str(name: &str) -> Result<DigestAlg, UnknownDigestAlg> {
        let wanted = name.to_ascii_uppercase();
        let is_it = |alg: &DigestAlg| match alg {
            DigestAlg::Sha1 => ["SHA1", "SHA-1", "SHA"].contains(&wanted.as_str()),
            alg => alg.name() == wanted || alg.name().replacen("SHA-", "SHA", 1) == wanted,
        };
        DigestAlg::ALL.into_iter().find(is_it).ok_or_else(|| UnknownDigestAlg(name.to_owned()))
    }
}

/// The schemes available on this server. `ip` always is. `world`, `auth` and `super` are not here: they have no
/// provider.
#[derive(Clone, Debug)]
pub struct Providers {
    /// `digest` is available (`DigestAuthenticationProvider.enabled`).
    pub digest: bool,
    /// The hash that `digest` uses.
    pub digest_alg: DigestAlg,
    /// `super:hash`: a client that proves this digest is the super user (`DigestAuthenticationProvider.superDigest`).
    pub super_digest: Option<String>,
    /// `sasl` is available.
    pub sasl: bool,
    /// `x509` is available.
    pub x509: bool,
    /// If `ensemble` is available: the names that clients may expect (`ensembleAuthName`); an empty list accepts every
    /// name.
    pub ensemble: Option<Vec<String>>,
}

impl Default for Providers {
    fn default() -> Providers {
        Providers {
            digest: true,
            digest_alg: DigestAlg::Sha1,
            super_digest: None,
            sasl: false,
            x509: false,
            ensemble: None,
        }
    }
}

/// Why an auth packet was refused. The connection is closed in both cases.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum AuthFailed {
    /// Unknown scheme, or wrong proof: answer `AUTHFAILED` before closing.
    #[error("authentication failed")]
    Refused,
    /// The client expects another ensemble: close without an answer, so that it tries another server.
    #[error("the client expects another ensemble")]
    WrongEnsemble,
}

impl Providers {
    /// Handles an auth packet of a client with address `ip` and returns the identities that the connection gains, if
    /// any.
    ///
    /// # Errors
    /// See [`AuthFailed`].
    pub fn handle_auth_packet(&self, scheme: &str, proof: Option<&[u8]>, ip: &str) -> Result<Vec<Id>, AuthFailed> {
        match (scheme, proof) {
            ("ip", _) => Ok(vec![Id::new("ip", ip)]),
            ("digest", Some(proof)) if self.digest => Ok(self.digest_ids(proof)),
            ("ensemble", proof) => match &self.ensemble {
                None => Err(AuthFailed::Refused),
                Some(names) => {
                    let name = proof.unwrap_or_default();
                    if name.is_empty() || names.is_empty() || names.iter().any(|n| n.as_bytes() == name) {
                        Ok(Vec::new())
                    } else {
                        Err(AuthFailed::WrongEnsemble)
                    }
                }
            },
            // Identities of sasl come from the SASL exchange, those of x509 from the TLS handshake, neither from an
            // auth packet.
            _ => Err(AuthFailed::Refused),
        }
    }

    fn digest_ids(&self, proof: &[u8]) -> Vec<Id> {
        let digest = generate_digest(self.digest_alg, &String::from_utf8_lossy(proof));
        let mut ids = Vec::with_capacity(2);
        if self.super_digest.as_deref() == Some(digest.as_str()) {
            ids.push(Id::new("super", ""));
        }
        ids.push(Id { scheme: "digest".to_owned(), id: digest });
        ids
    }

    /// Whether `id` is valid in an ACL under `scheme`; false for a scheme that this server does not have.
    pub fn is_valid(&self, scheme: &str, id: &str) -> bool {
        match scheme {
            "ip" => IpPattern::parse(id).is_some(),
            "digest" => self.digest && java_split_count(id) == 2,
            "sasl" => self.sasl && is_principal(id),
            "x509" => self.x509 && is_distinguished_name(id),
            _ => false,
        }
    }

    /// Whether an identity of `scheme` names a user, so that the ACL scheme `auth` expands to it.
    pub fn is_authenticated(&self, scheme: &str) -> bool {
        match scheme {
            "digest" => self.digest,
            "sasl" => self.sasl,
            "x509" => self.x509,
            _ => false,
        }
    }

    /// The user name in an identity, as `whoAmI` shows it; empty for a scheme without a provider.
    pub fn user_name<'a>(&self, id: &'a Id) -> &'a str {
        match id.scheme.as_str() {
            "digest" if self.digest => id.id.split(':').next().unwrap_or_default(),
            "ip" => &id.id,
            "sasl" if self.sasl => &id.id,
            "x509" if self.x509 => &id.id,
            "ensemble" if self.ensemble.is_some() => &id.id,
            _ => "",
        }
    }
}

/// Turns `user:password` into `user:base64(hash(user:password))`.
pub fn generate_digest(alg: DigestAlg, user_password: &str) -> String {
    let user = user_password.split(':').next().unwrap_or_default();
    format!("{user}:{}", alg.encoded(user_password.as_bytes()))
}

/// The number of parts that Java's `split(":")` returns: empty parts at the end are dropped, but "" is one part.
fn java_split_count(id: &str) -> usize {
    match id.trim_end_matches(':') {
        "" => usize::from(id.is_empty()),
        kept => kept.split(':').count(),
    }
}

/// Whether `id` has the form of a Kerberos principal, `name[/host][@REALM]`.
fn is_principal(id: &str) -> bool {
    let (name, realm) = match id.split_once('@') {
        Some((name, realm)) => (name, Some(realm)),
        None => (id, None),
    };
    let bad = |s: &str| s.is_empty() || s.contains(['/', '@']);
    let (service, host) = match name.split_once('/') {
        Some((service, host)) => (service, Some(host)),
        None => (name, None),
    };
    !bad(service) && !host.is_some_and(bad) && !realm.is_some_and(bad)
}

/// Whether `id` looks like the subject of a certificate: `KEY=value` parts separated by commas. Not checked further.
fn is_distinguished_name(id: &str) -> bool {
    let mut unescaped = String::with_capacity(id.len());
    let (mut quoted, mut escaped) = (false, false);
    for c in id.chars() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => quoted = !quoted,
            ',' | ';' | '+' if !quoted => unescaped.push(','),
            '=' if !quoted => unescaped.push('='),
            _ if quoted => {}
            c => unescaped.push(c),
        }
    }
    !quoted
        && !escaped
        && unescaped.split(',').all(|part| {
            part.split_once('=').is_some_and(|(key, _)| {
                let key = key.trim();
                !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'))
            })
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digest_of_the_documentation() {
        // `DigestAuthenticationProvider super:test`, widely quoted.
        assert_eq!(generate_digest(DigestAlg::Sha1, "super:test"), "super:D/InIHSb7yEEbrWz8b9l71RjZJU=");
        assert_eq!(generate_digest(DigestAlg::Sha1, "nocolon").split(':').next(), Some("nocolon"));
        let longer = generate_digest(DigestAlg::Sha256, "a:b:c");
        assert!(longer.starts_with("a:") && longer.len() == 2 + 44, "{longer}");
        assert_eq!(generate_digest(DigestAlg::Sha512, "a:b").len(), 2 + 88);
    }

    /// The expected values come from a JDK's `MessageDigest`, over `a:b`.
    #[test]
    fn every_algorithm_is_java_s() {
        for (name, hash) in [
            ("SHA1", "3OptnM09ILoVSfbZtd3mB0IViII="),
            ("SHA-224", "NO5ox74+wWKYdzIKr5itkCWCbJdqfZxBpaBhqg=="),
            ("SHA-256", "Z4OjHqv2jMwGYPk1wIJigr3SJB86gKny0Q1Zrqnrtdg="),
            ("SHA-384", "M/NiZn7HTqhVZ8t77kPIHIPTVGoTvNRnilTr5ieaJY334TdVUc5jsR1iIyM0tnOD"),
            ("SHA-512", "mdoaJYs51sQ7xY1yh5/CxU2MLd6OyA+mb0neO06R7P3yavbdaDJ9XFm/4RaKEBLXUxeYO/0qTS5uXf3tYf0Smw=="),
            ("SHA-512/224", "8b/dvq349B+GhaRmjmmEuURLjeEv8qp/LLJLww=="),
            ("SHA-512/256", "OZzjuYX0pZ3N7Wm6zdI/j+Of9drLfO2EMf9IylYc9kQ="),
            ("SHA3-224", "xUG45FovgCHfY6uJPFHPSB/BTsoY27AAOeVvgg=="),
            ("SHA3-256", "ejvga8z66+WtMLJrmlP4mB2ikyi0ZnEdX7dJ2QqhVbg="),
            ("SHA3-384", "XCsbsbQ8VMzkEzd3pfBut1KO09iPMOdqmY+VjSDBbQ2U6jtPU5iTtajvXRaQYUgK"),
            ("SHA3-512", "+iQ01vZsS/KKa3tYbcDQCiSvKFghApgRg4c0xnxZ04YdCCoLNpe8Cd6ADfwYSBvLIcDub+4ghTFvLGxjcX0IgQ=="),
        ] {
            let alg: DigestAlg = name.parse().unwrap();
            assert_eq!((alg.name(), generate_digest(alg, "a:b")), (name, format!("a:{hash}")));
        }
        for (name, alg) in [
            ("SHA", DigestAlg::Sha1),
            ("sha-1", DigestAlg::Sha1),
            ("SHA256", DigestAlg::Sha256),
            ("sha-384", DigestAlg::Sha384),
            ("SHA512/256", DigestAlg::Sha512_256),
            ("sha3-256", DigestAlg::Sha3_256),
        ] {
            assert_eq!(name.parse(), Ok(alg), "{name}");
        }
        for name in ["", "MD4", "MD5", "SHA3256", "SHA3_256", "SHAKE256", "SHA-3-256"] {
            let said = name.parse::<DigestAlg>().unwrap_err().to_string();
            assert!(said.contains(&format!("{name:?}")) && said.contains("SHA1, SHA-224, SHA-256"), "{said}");
        }
    }

    #[test]
    fn auth_packets() {
        let p =
            Providers { super_digest: Some("super:D/InIHSb7yEEbrWz8b9l71RjZJU=".to_owned()), ..Providers::default() };
        let packet = |scheme: &str, proof: &[u8]| p.handle_auth_packet(scheme, Some(proof), "10.0.0.1");
        let ids = packet("digest", b"super:test").unwrap();
        assert_eq!(ids, [Id::new("super", ""), Id::new("digest", "super:D/InIHSb7yEEbrWz8b9l71RjZJU=")]);
        assert_eq!(packet("digest", b"bob:pw").unwrap().len(), 1);
        assert_eq!(packet("digest", b"\xff").unwrap()[0].id.split(':').next(), Some("\u{fffd}"));
        assert_eq!(packet("ip", b"x").unwrap(), [Id::new("ip", "10.0.0.1")]);
        for unknown in ["", "world", "super", "auth", "sasl", "x509", "ensemble", "nope"] {
            assert_eq!(packet(unknown, b"a:b"), Err(AuthFailed::Refused), "{unknown}");
        }
        assert_eq!(p.handle_auth_packet("digest", None, "::1"), Err(AuthFailed::Refused));
        let off = Providers { digest: false, ..Providers::default() };
        assert_eq!(off.handle_auth_packet("digest", Some(b"a:b"), "::1"), Err(AuthFailed::Refused));
    }

    #[test]
    fn the_ensemble_scheme_only_compares_names() {
        let p = Providers { ensemble: Some(vec!["blue".to_owned(), "green".to_owned()]), ..Providers::default() };
        let packet = |proof: Option<&[u8]>| p.handle_auth_packet("ensemble", proof, "::1");
        assert_eq!(packet(Some(b"green")), Ok(vec![]));
        assert_eq!(packet(None), Ok(vec![]));
        assert_eq!(packet(Some(b"")), Ok(vec![]));
        assert_eq!(packet(Some(b"red")), Err(AuthFailed::WrongEnsemble));
        let any = Providers { ensemble: Some(vec![]), ..Providers::default() };
        assert_eq!(any.handle_auth_packet("ensemble", Some(b"red"), "::1"), Ok(vec![]));
    }

    #[test]
    fn ids_in_acls() {
        let p = Providers { sasl: true, x509: true, ..Providers::default() };
        for (scheme, id, ok) in [
            ("digest", "a:b", true),
            ("digest", ":b", true),
            ("digest", "a:b::", true),
            ("digest", "a:", false),
            ("digest", "a", false),
            ("digest", ":", false),
            ("digest", "", false),
            ("digest", "a:b:c", false),
            ("ip", "10.0.0.0/8", true),
            ("ip", "10.0.0.0/33", false),
            ("ip", "host", false),
            ("sasl", "zk/host.example@REALM", true),
            ("sasl", "bob", true),
            ("sasl", "a/b/c", false),
            ("sasl", "a@b@c", false),
            ("sasl", "", false),
            ("x509", "CN=bob, O=Acme", true),
            ("x509", "CN=\"a,b\"", true),
            ("x509", "bob", false),
            ("world", "everyone", false),
            ("super", "", false),
            ("ensemble", "a", false),
            ("", "", false),
        ] {
            assert_eq!(p.is_valid(scheme, id), ok, "{scheme}:{id}");
        }
        assert!(!Providers::default().is_valid("sasl", "bob"));
        assert!(!Providers { digest: false, ..Providers::default() }.is_valid("digest", "a:b"));
    }

    #[test]
    fn who_am_i() {
        let p = Providers::default();
        assert_eq!(p.user_name(&Id::new("digest", "bob:hash=")), "bob");
        assert_eq!(p.user_name(&Id::new("ip", "10.0.0.1")), "10.0.0.1");
        assert_eq!(p.user_name(&Id::new("super", "")), "");
        assert_eq!(p.user_name(&Id::new("sasl", "bob")), "");
    }
}
