//! ACLs in writes: which lists a client may set, what a client may do under one, and what it may see of one. Mirrors
//! `PrepRequestProcessor.fixupACL` and `ZooKeeperServer.checkACL`.

use hashbrown::HashSet;

use crate::auth::Providers;
use crate::txn::body::share;
use crate::types::acl::{AclList, SharedAcl, is_open, permits};
use crate::types::{Acl, ErrorCode, Id};

/// Turns the list that a client sent into the one to store: without duplicates, and with `auth` replaced by the
/// client's identities.
///
/// # Errors
/// `InvalidAcl`: the list is empty, the server does not have a scheme, an id is not valid in its scheme, or `auth` was
/// sent by a client that is not authenticated. `MarshallingError`: replacing `auth` made the list longer than
/// `max_bytes`.
pub fn fixup(providers: &Providers, asker: &[Id], acls: AclList, max_bytes: usize) -> Result<SharedAcl, ErrorCode> {
    if acls.is_empty() {
        return Err(ErrorCode::InvalidAcl);
    }
    if is_open(&acls) {
        return Ok(None);
    }
    let mut stored: Vec<Acl> = Vec::with_capacity(acls.len());
    let mut expanded_bytes = 0;
    for acl in without_doubles(acls.into_owned()) {
        match (acl.id.scheme.as_str(), acl.id.id.as_str()) {
            ("world", "anyone") => stored.push(acl),
            ("auth", _) => {
                let before = stored.len();
                for id in asker.iter().filter(|id| providers.is_authenticated(&id.scheme)) {
                    // A client chooses both the entries and its identities, so their product must be bounded.
                    expanded_bytes += 12 + id.scheme.len() + id.id.len();
                    if expanded_bytes > max_bytes {
                        return Err(ErrorCode::MarshallingError);
                    }
                    stored.push(Acl { perms: acl.perms, id: id.clone() });
                }
                if stored.len() == before {
                    return Err(ErrorCode::InvalidAcl);
                }
            }
            (scheme, id) if providers.is_valid(scheme, id) => stored.push(acl),
            _ => return Err(ErrorCode::InvalidAcl),
        }
    }
    Ok(share(stored))
}

fn without_doubles(acls: Vec<Acl>) -> Vec<Acl> {
    if acls.len() == 1 {
        return acls;
    }
    let mut seen: HashSet<Acl> = HashSet::with_capacity(acls.len());
    acls.into_iter().filter(|acl| seen.insert(acl.clone())).collect()
}

/// Checks that `asker` has at least one of the permissions `wanted` under `acl`.
///
/// # Errors
/// `NoAuth` if it has none.
pub fn check(skip_acl: bool, acl: &SharedAcl, asker: &[Id], wanted: i32) -> Result<(), ErrorCode> {
    if skip_acl || permits(acl.as_deref(), asker, wanted) { Ok(()) } else { Err(ErrorCode::NoAuth) }
}

/// The list that getACL returns to a client that may read it but not set it: the hashes of `digest` ids are hidden.
pub fn masked(acls: &[Acl]) -> Vec<Acl> {
    let mut shown = acls.to_vec();
    for acl in &mut shown {
        if acl.id.scheme == "digest"
            && let Some(colon) = acl.id.id.find(':')
        {
            acl.id.id.truncate(colon);
            acl.id.id.push_str(":x");
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acl(perms: i32, scheme: &str, id: &str) -> Acl {
        Acl { perms, id: Id::new(scheme, id) }
    }

    fn fix(asker: &[Id], acls: Vec<Acl>) -> Result<Vec<Acl>, ErrorCode> {
        fixup(&Providers::default(), asker, acls.into(), 1000)
            .map(|a| a.map_or_else(|| vec![Acl::world_all()], |a| a.to_vec()))
    }

    #[test]
    fn lists_are_fixed_up() {
        let me =
            [Id::new("ip", "10.0.0.1"), Id::new("digest", "bob:h"), Id::new("digest", "bob:g"), Id::new("super", "")];
        assert_eq!(fix(&me, vec![]), Err(ErrorCode::InvalidAcl));
        assert_eq!(fix(&me, vec![Acl::world_all(), Acl::world_all()]).unwrap(), [Acl::world_all()]);
        assert_eq!(
            fix(&me, vec![acl(3, "auth", "ignored"), acl(1, "ip", "10.0.0.0/8")]).unwrap(),
            [acl(3, "digest", "bob:h"), acl(3, "digest", "bob:g"), acl(1, "ip", "10.0.0.0/8")]
        );
        assert_eq!(fix(&me[..1], vec![acl(3, "auth", "")]), Err(ErrorCode::InvalidAcl));
        assert_eq!(fix(&me, vec![acl(3, "world", "everyone")]), Err(ErrorCode::InvalidAcl));
        assert_eq!(fix(&me, vec![acl(3, "super", "")]), Err(ErrorCode::InvalidAcl));
        assert_eq!(fix(&me, vec![acl(3, "digest", "nohash")]), Err(ErrorCode::InvalidAcl));
        assert_eq!(fix(&me, vec![Acl::world_all(), acl(3, "nope", "x")]), Err(ErrorCode::InvalidAcl));
        assert_eq!(fixup(&Providers::default(), &me, vec![Acl::world_all()].into(), 0), Ok(None));
        let many: Vec<Acl> = (0..30).map(|perms| acl(perms, "auth", "")).collect();
        assert_eq!(fix(&me, many), Err(ErrorCode::MarshallingError));
    }

    #[test]
    fn masks_hide_hashes() {
        let list = [acl(1, "digest", "bob:hash:x"), acl(1, "digest", "bare"), acl(1, "ip", "::1"), Acl::world_all()];
        let ids: Vec<String> = masked(&list).into_iter().map(|a| a.id.id).collect();
        assert_eq!(ids, ["bob:x", "bare", "::1", "anyone"]);
    }
}
