//! The records after a reply's header, each both written and read. A record that is a single jute field or a single
//! stat has no function here: create and sync are answered with a path, exists, setData and setACL with a stat,
//! getChildren and getEphemerals with strings, getAllChildrenNumber and addWatch with a number. Mirrors the `*Response`
//! records of `zookeeper.jute`.

use super::record::Text;
use crate::jute::acl::{put_acls, read_acls};
use crate::jute::stat::{put_stat, read_stat};
use crate::jute::{JuteError, Put, Reader};
use crate::types::acl::AclList;
use crate::types::{Acl, Stat};

/// Appends the answer to create2, createContainer and createTTL.
#[inline]
pub fn put_created(out: &mut Vec<u8>, path: &str, stat: &Stat) {
    out.put_string(path);
    put_stat(out, stat);
}

/// Reads the answer to create2, createContainer and createTTL.
///
/// # Errors
/// The bytes end too early.
pub fn read_created<'a>(r: &mut Reader<'a>) -> Result<(Text<'a>, Stat), JuteError> {
    Ok((r.string()?, read_stat(r)?))
}

/// Appends the answer to getData and reconfig.
#[inline]
pub fn put_data(out: &mut Vec<u8>, data: Option<&[u8]>, stat: &Stat) {
    out.put_buffer(data);
    put_stat(out, stat);
}

/// Reads the answer to getData and reconfig.
///
/// # Errors
/// The bytes end too early.
pub fn read_data<'a>(r: &mut Reader<'a>) -> Result<(Option<&'a [u8]>, Stat), JuteError> {
    Ok((r.buffer()?, read_stat(r)?))
}

/// Appends the response to getChildren, which is the names; for getChildren2 the caller appends the stat. `names` must
/// yield `count` names.
#[inline]
pub fn put_children<'n>(out: &mut Vec<u8>, count: i32, names: impl Iterator<Item = &'n str>) {
    out.put_i32(count);
    for name in names {
        out.put_string(name);
    }
}

/// Reads the answer to getChildren2.
///
/// # Errors
/// The bytes end too early.
pub fn read_children2(r: &mut Reader<'_>) -> Result<(Vec<String>, Stat), JuteError> {
    Ok((r.strings()?, read_stat(r)?))
}

/// Appends the answer to getACL.
pub fn put_acl(out: &mut Vec<u8>, acl: &[Acl], stat: &Stat) {
    put_acls(out, acl);
    put_stat(out, stat);
}

/// Reads the answer to getACL.
///
/// # Errors
/// The bytes end too early.
pub fn read_acl(r: &mut Reader<'_>) -> Result<(AclList, Stat), JuteError> {
    Ok((read_acls(r)?, read_stat(r)?))
}

/// Appends the answer to whoAmI: scheme and user of each identity.
pub fn put_client_infos<'i>(out: &mut Vec<u8>, infos: impl ExactSizeIterator<Item = (&'i str, &'i str)>) {
    out.put_i32(infos.len() as i32);
    for (scheme, user) in infos {
        out.put_string(scheme);
        out.put_string(user);
    }
}

/// Reads the answer to whoAmI.
///
/// # Errors
/// The bytes end too early.
pub fn read_client_infos(r: &mut Reader<'_>) -> Result<Vec<(String, String)>, JuteError> {
    // Each entry has at least two lengths.
    let n = r.count(8)?.unwrap_or(0);
    (0..n).map(|_| Ok((r.string()?.into_owned(), r.string()?.into_owned()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads the whole record, and checks that every shortened one is refused.
    fn read<'a, T: PartialEq + std::fmt::Debug>(
        bytes: &'a [u8],
        expected: T,
        read: impl Fn(&mut Reader<'a>) -> Result<T, JuteError>,
    ) {
        let mut r = Reader::new(bytes);
        assert_eq!(read(&mut r), Ok(expected));
        assert!(r.is_empty());
        for cut in 0..bytes.len() {
            assert!(read(&mut Reader::new(&bytes[..cut])).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn what_is_written_is_read_as_it_was() {
        let stat = Stat { version: 3, num_children: 2, ..Stat::default() };
        let mut out = Vec::new();
        put_created(&mut out, "/a", &stat);
        read(&out, ("/a".into(), stat), read_created);
        for data in [None, Some(&b""[..]), Some(&b"x"[..])] {
            let mut out = Vec::new();
            put_data(&mut out, data, &stat);
            read(&out, (data, stat), read_data);
        }
        let mut out = Vec::new();
        put_children(&mut out, 2, ["a", "é"].into_iter());
        put_stat(&mut out, &stat);
        read(&out, (vec!["a".to_owned(), "é".to_owned()], stat), read_children2);
        let acl = vec![Acl::world_all(), Acl { perms: 1, id: crate::types::Id::new("digest", "bob:h") }];
        let mut out = Vec::new();
        put_acl(&mut out, &acl, &stat);
        read(&out, (acl.into(), stat), read_acl);
        let infos = [("ip", "::1"), ("digest", "bob")];
        let mut out = Vec::new();
        put_client_infos(&mut out, infos.into_iter());
        read(&out, infos.map(|(s, u)| (s.to_owned(), u.to_owned())).to_vec(), read_client_infos);
    }
}
