//! Checks who may take or restore snapshots over HTTP: the header `Authorization: <scheme> <proof>` must give every
//! permission on the root znode. Mirrors `Commands.handleAuthentication` and `handleAuthorization`.

use std::net::SocketAddr;

use axum::http::{HeaderValue, StatusCode};
use thiserror::Error;

use super::state::AdminState;
use crate::auth::Providers;
use crate::peer::turn::TreeAccess;
use crate::runtime::settings;
use crate::types::acl::{host_address, permits};
use crate::types::{Acl, Id, perms};

/// Why a request is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub(super) enum Refusal {
    #[error("Auth info is missing for the command")]
    Missing,
    #[error("Not authenticated")]
    Unknown,
    #[error("Not authorized")]
    Forbidden,
}

impl Refusal {
    pub(super) fn status(self) -> StatusCode {
        match self {
            Refusal::Missing | Refusal::Unknown => StatusCode::UNAUTHORIZED,
            Refusal::Forbidden => StatusCode::FORBIDDEN,
        }
    }
}

/// Checks that the client is the super user or has every permission on the root znode.
pub(super) fn may_administer(state: &AdminState, proof: Option<&HeaderValue>, from: SocketAddr) -> Result<(), Refusal> {
    let ids = identities(&settings::providers(&state.config), proof, from)?;
    if state.config.auth.skip_acl {
        return Ok(());
    }
    let tree = state.shared.tree.read();
    let root = tree.get("/");
    if holds_all(root.as_ref().and_then(|n| n.acl()), &ids) { Ok(()) } else { Err(Refusal::Forbidden) }
}

/// ZooKeeper requires any one permission; its documentation requires all of them, and so do we.
fn holds_all(acl: Option<&[Acl]>, ids: &[Id]) -> bool {
    [perms::READ, perms::WRITE, perms::CREATE, perms::DELETE, perms::ADMIN].iter().all(|p| permits(acl, ids, *p))
}

fn identities(providers: &Providers, proof: Option<&HeaderValue>, from: SocketAddr) -> Result<Vec<Id>, Refusal> {
    let proof = proof.ok_or(Refusal::Missing)?.to_str().map_err(|_| Refusal::Unknown)?;
    let (scheme, data) = match proof.split_once(' ') {
        Some((scheme, data)) if !data.contains(' ') => (scheme, Some(data.as_bytes())),
        Some(_) => return Err(Refusal::Unknown),
        None => (proof, None),
    };
    let ip = host_address(from.ip());
    match providers.handle_auth_packet(scheme, data, &ip) {
        Ok(ids) if !ids.is_empty() => Ok(ids),
        _ => Err(Refusal::Unknown),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(proof: &str) -> Result<Vec<Id>, Refusal> {
        let providers =
            Providers { super_digest: Some("super:/49OUaS/Rm5CIudE7EhYoMwy+PY=".into()), ..Providers::default() };
        identities(&providers, Some(&HeaderValue::from_str(proof).unwrap()), "[::ffff:10.1.2.3]:9".parse().unwrap())
    }

    #[test]
    fn proofs() {
        assert!(ask("digest super:interop").unwrap().iter().any(Id::is_super));
        assert!(!ask("digest super:wrong").unwrap().iter().any(Id::is_super));
        assert_eq!(ask("ip").unwrap(), [Id::new("ip", "10.1.2.3")]);
        for bad in ["x", "digest", "digest a b", "sasl a", ""] {
            assert_eq!(ask(bad), Err(Refusal::Unknown), "{bad}");
        }
        let nobody = "127.0.0.1:9".parse().unwrap();
        assert_eq!(identities(&Providers::default(), None, nobody), Err(Refusal::Missing));
    }

    #[test]
    fn all_permissions_are_needed() {
        let me = [Id::new("digest", "a:b")];
        let acl = |perms| [Acl { perms, id: Id::new("digest", "a:b") }];
        assert!(holds_all(Some(&acl(perms::ALL)), &me));
        assert!(!holds_all(Some(&acl(perms::ALL & !perms::ADMIN)), &me));
        assert!(!holds_all(Some(&acl(perms::ALL)), &[Id::new("ip", "10.1.2.3")]));
        assert!(holds_all(None, &me));
        assert!(holds_all(Some(&acl(perms::READ)), &[Id::new("super", "")]));
    }
}
