//! Properties of TLS, for clients (`ssl.`) and between servers (`ssl.quorum.`). TLS comes in a later version. To ignore
//! one of these would serve unencrypted what was meant to be encrypted, so they are refused.

use super::Scope::{Bare, Property};
use super::{Key, meaningless, refused};

const TLS: &str = "TLS";
const PEER_TLS: &str = "TLS between servers";

macro_rules! both {
    ($(($name:literal, $client:literal, $quorum:literal)),* $(,)?) => {
        &[
            $(
                refused(Property, concat!("ssl.", $name), $client, TLS),
                refused(Property, concat!("ssl.quorum.", $name), $quorum, PEER_TLS),
            )*
            refused(Property, "ssl.authProvider", "x509", TLS),
            refused(Property, "ssl.sslProvider", "JDK", TLS),
            refused(Property, "ssl.", "", TLS),
            refused(Property, "client.portUnification", "false", TLS),
            refused(Property, "client.certReload", "false", TLS),
            refused(Property, "client.secure", "false", TLS),
            meaningless(Property, "fips-mode", "true", "there is no TLS in this version"),
            refused(Bare, "javax.net.ssl.", "", TLS),
        ]
    };
}

pub(super) const KEYS: &[Key] = both![
    ("keyStore.location", "", ""),
    ("keyStore.password", "", ""),
    ("keyStore.passwordPath", "", ""),
    ("keyStore.type", "", ""),
    ("trustStore.location", "", ""),
    ("trustStore.password", "", ""),
    ("trustStore.passwordPath", "", ""),
    ("trustStore.type", "", ""),
    ("protocol", "", ""),
    ("enabledProtocols", "", ""),
    ("ciphersuites", "", ""),
    ("context.supplier.class", "", ""),
    ("hostnameVerification", "true", "true"),
    ("clientHostnameVerification", "false", "true"),
    ("allowReverseDnsLookup", "false", "false"),
    ("crl", "false", "false"),
    ("ocsp", "false", "false"),
    ("clientAuth", "need", "need"),
    ("handshakeDetectionTimeoutMillis", "5000", "5000"),
];
