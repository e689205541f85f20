//! ACL lists and identities.

use super::{JuteError, Put, Reader};
use crate::types::{Acl, Id};

/// Fewest bytes one entry takes: perms and two string lengths.
const MIN_ACL: usize = 12;

/// Appends an ACL list.
pub fn put_acls(out: &mut Vec<u8>, acls: &[Acl]) {
    out.put_i32(acls.len() as i32);
    for a in acls {
        out.put_i32(a.perms);
        put_id(out, &a.id);
    }
}

/// Reads an ACL list; null reads as empty, null strings as empty ones.
pub fn read_acls(r: &mut Reader<'_>) -> Result<Vec<Acl>, JuteError> {
    let n = r.count(MIN_ACL)?.unwrap_or(0);
    (0..n).map(|_| Ok(Acl { perms: r.i32()?, id: read_id(r)? })).collect()
}

/// Appends an identity.
pub fn put_id(out: &mut Vec<u8>, id: &Id) {
    out.put_string(&id.scheme);
    out.put_string(&id.id);
}

/// Reads an identity.
pub fn read_id(r: &mut Reader<'_>) -> Result<Id, JuteError> {
    Ok(Id { scheme: r.string()?.into_owned(), id: r.string()?.into_owned() })
}
