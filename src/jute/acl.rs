//! ACL lists and identities.

use super::{JuteError, Put, Reader};
use crate::types::acl::{self, AclList};
use crate::types::{Acl, Id};

/// The fewest bytes that one entry takes: permissions and two string lengths.
const MIN_ACL: usize = 12;

/// [`acl::open`] as encoded: nearly every create carries these bytes.
const OPEN: &[u8] = b"\0\0\0\x01\0\0\0\x1f\0\0\0\x05world\0\0\0\x06anyone";

/// Appends an ACL list.
pub fn put_acls(out: &mut Vec<u8>, acls: &[Acl]) {
    out.put_i32(acls.len() as i32);
    for a in acls {
        out.put_i32(a.perms);
        put_id(out, &a.id);
    }
}

/// Appends [`acl::open`].
pub fn put_open_acl(out: &mut Vec<u8>) {
    out.extend_from_slice(OPEN);
}

/// Reads an ACL list; null reads as empty, null strings as empty ones.
#[inline]
pub fn read_acls(r: &mut Reader<'_>) -> Result<AclList, JuteError> {
    if r.rest().starts_with(OPEN) {
        r.take(OPEN.len())?;
        return Ok(AclList::Borrowed(acl::open()));
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_open_list_is_read_without_a_copy_and_others_as_they_are() {
        let world = |perms| vec![Acl { perms, id: Id::world() }];
        let two = [world(31), world(31)].concat();
        for list in [world(31), world(30), two, vec![Acl { perms: 31, id: Id::new("world", "anyon") }], vec![]] {
            let mut bytes = Vec::new();
            put_acls(&mut bytes, &list);
            bytes.push(7);
            let mut r = Reader::new(&bytes);
            let read = read_acls(&mut r).unwrap();
            assert_eq!((&read[..], r.rest()), (&list[..], &[7][..]));
            assert_eq!(matches!(read, AclList::Borrowed(_)), list == acl::open(), "{list:?}");
        }
        let (mut short, mut long) = (Vec::new(), Vec::new());
        put_open_acl(&mut short);
        put_acls(&mut long, acl::open());
        assert_eq!(short, long);
        for cut in 0..short.len() {
            assert!(read_acls(&mut Reader::new(&short[..cut])).is_err(), "{cut}");
        }
    }
}
