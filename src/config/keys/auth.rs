//! Properties of authentication and ACLs.

use super::Scope::{Bare, Property};
use super::{Key, Set, property, refused};
use crate::auth::DigestAlg;
use crate::config::settings::Config;

const SASL: &str = "SASL";
const X509: &str = "authentication by TLS certificates";

pub(super) const KEYS: &[Key] = &[
    property("DigestAuthenticationProvider.enabled", "true", Set::Bool(|c, v| c.auth.digest = v)),
    property(
        "DigestAuthenticationProvider.superDigest",
        "",
        Set::Text(|c, v| {
            if !v.is_empty() && !v.contains(':') {
                return Err("is not user:hash, so nobody could be the super user: write super: and the hash".into());
            }
            c.auth.super_digest = Some(v.to_string()).filter(|v| !v.is_empty());
            Ok(())
        }),
    ),
    property(
        "DigestAuthenticationProvider.digestAlg",
        "SHA1",
        Set::Text(|c, v| {
            c.auth.digest_alg = v.parse::<DigestAlg>().map_err(|e| e.to_string())?;
            Ok(())
        }),
    ),
    refused(Property, "X509AuthenticationProvider.superUser", "", X509),
    refused(Property, "superUser", "", SASL),
    refused(Property, "superUser.", "", SASL),
    refused(Property, "SASLAuthenticationProvider.superPassword", "", SASL),
    refused(Property, "letAnySaslUserDoX", "", SASL),
    refused(Property, "allowSaslFailedClients", "false", SASL),
    refused(Property, "sessionRequireClientSASLAuth", "false", SASL),
    property("enforce.auth.enabled", "false", Set::Bool(|c, v| c.auth.enforce = v)),
    property("enforce.auth.schemes", "", Set::Text(enforced_schemes)),
    property("ensembleAuthName", "", Set::Text(ensemble_names)),
    property("authProvider.", "", Set::Text(provider)),
    refused(Property, "sasl.serverconfig", "Server", SASL),
    refused(Property, "kerberos.removeHostFromPrincipal", "false", SASL),
    refused(Property, "kerberos.removeRealmFromPrincipal", "false", SASL),
    refused(Property, "kerberos.canonicalizeHostNames", "false", SASL),
    refused(Property, "kerberos.minReLoginTimeMs", "60000", SASL),
    refused(Property, "security.auth_to_local", "DEFAULT", SASL),
    refused(Property, "requireKerberosConfig", "false", SASL),
    refused(Property, "server.realm", "", SASL),
    refused(Bare, "java.security.auth.login.config", "", SASL),
    property("skipACL", "no", Set::YesNo(|c, v| c.auth.skip_acl = v)),
];

fn ensemble_names(config: &mut Config, text: &str) -> Result<(), String> {
    let names = text.split(',').map(str::trim).filter(|n| !n.is_empty());
    config.auth.ensemble_names = names.map(str::to_string).collect();
    if config.auth.ensemble_names.is_empty() && !text.is_empty() {
        return Err(format!("{text:?} contains no name: write names separated by commas"));
    }
    Ok(())
}

fn enforced_schemes(config: &mut Config, text: &str) -> Result<(), String> {
    let schemes = text.split(',').map(str::trim).filter(|s| !s.is_empty());
    config.auth.enforced_schemes = schemes.map(str::to_string).collect();
    for scheme in &config.auth.enforced_schemes {
        match scheme.as_str() {
            "digest" | "ip" => {}
            "sasl" | "x509" | "ensemble" => {
                return Err(format!("scheme {scheme} is not available in this version: remove it"));
            }
            _ => return Err(format!("scheme {scheme:?} is unknown: write digest or ip")),
        }
    }
    Ok(())
}

/// ZooKeeper loads the class; here only the built-in providers may be named, all other classes are refused.
fn provider(config: &mut Config, class: &str) -> Result<(), String> {
    let known = "org.apache.zookeeper.server.auth.";
    let what = match class.strip_prefix(known) {
        Some("DigestAuthenticationProvider" | "IPAuthenticationProvider") => return Ok(()),
        _ if class.is_empty() => return Ok(()),
        Some("SASLAuthenticationProvider") => SASL,
        Some("EnsembleAuthenticationProvider") => {
            config.auth.ensemble = true;
            return Ok(());
        }
        Some("X509AuthenticationProvider") => X509,
        _ => "a Java class as authentication provider",
    };
    Err(format!("{class}: {what} is not available in this version: remove the key"))
}
