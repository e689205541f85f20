//! What validating a request needs to know of a znode, copied out. Shape of `PrepRequestProcessor`'s `ChangeRecord`.

use crate::types::StatPersisted;
use crate::types::acl::SharedAcl;

/// A znode's numbers, without name and data.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub struct Record {
    pub stat: StatPersisted,
    pub num_children: i32,
    /// Bytes of data; null counts 0.
    pub data_len: i32,
    /// What it adds to the digest, if it is digested (see [`super::digest`]); 0 while digests are off.
    pub share: u32,
    pub acl: SharedAcl,
}
