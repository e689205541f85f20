//! Where the stream of a SNAP ends. Nothing says how long it is: its end is known only from its contents, as
//! `SerializeUtils.deserializeSnapshot` reads them. Here only lengths are read, so that it can be handed on as it comes; whoever
//! loads it looks at the rest.

use thiserror::Error;

use crate::types::Zxid;

/// What follows the last znode: a string, as jute writes it.
const SIGNATURE: &[u8; 14] = b"\0\0\0\x0aBenWasHere";

/// Bytes of a session and its time-out.
const SESSION: u64 = 12;
/// Bytes behind a znode's data: the number of its ACL, and its stat.
const ACL_AND_STAT: u64 = 8 + 60;

/// Why the stream cannot be followed any further.
#[derive(Debug, Error, PartialEq, Eq, Clone, Copy)]
#[error("byte {at}: {what}")]
pub struct ImageError {
    /// Bytes of the stream before this one.
    at: u64,
    what: &'static str,
}

/// What is read next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Sessions,
    Acls,
    /// Entries of a list, and lists behind it.
    AclEntries {
        lists: u32,
    },
    AclScheme {
        entries: u32,
        lists: u32,
    },
    AclId {
        entries: u32,
        lists: u32,
    },
    PathLen,
    /// The one byte of a path of one byte: "/" is the end, since the root's path is empty.
    ShortPath,
    DataLen,
    Signature,
    Whole,
}

/// How far a call of [`Image::walk`] went.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Walked {
    /// Bytes that belong to the snapshot.
    pub image: usize,
    /// These and bytes of the signature behind them.
    pub taken: usize,
    /// The signature is complete.
    pub is_whole: bool,
}

/// The position in a stream.
#[derive(Debug)]
pub(super) struct Image {
    zxid: Zxid,
    at: u64,
    step: Step,
    /// Bytes to be passed over before `step`.
    skip: u64,
    /// The bytes of `step` that are there.
    field: Vec<u8>,
}

impl Image {
    /// The stream behind SNAP with this zxid.
    pub(super) fn new(zxid: Zxid) -> Image {
        Image { zxid, at: 0, step: Step::Sessions, skip: 0, field: Vec::with_capacity(SIGNATURE.len()) }
    }

    pub(super) fn zxid(&self) -> Zxid {
        self.zxid
    }

    /// Follows the stream through `bytes`. Takes all of them, unless the stream ends in them.
    pub(super) fn walk(&mut self, bytes: &[u8]) -> Result<Walked, ImageError> {
        let (mut taken, mut image) = (0, 0);
        while self.step != Step::Whole && taken < bytes.len() {
            let left = bytes.len() - taken;
            let is_signature = self.step == Step::Signature;
            let skipped = usize::try_from(self.skip).unwrap_or(usize::MAX).min(left);
            if skipped > 0 {
                assert!(!is_signature, "bytes between snapshot and signature");
                self.skip -= skipped as u64;
                self.at += skipped as u64;
                taken += skipped;
            } else {
                let missing = self.len_of_field() - self.field.len();
                let read = missing.min(left);
                self.field.extend_from_slice(&bytes[taken..taken + read]);
                self.at += read as u64;
                taken += read;
                if read == missing {
                    self.next()?;
                }
            }
            if !is_signature {
                image = taken;
            }
        }
        assert!(image <= taken && taken <= bytes.len(), "{image} of {taken} of {} bytes", bytes.len());
        Ok(Walked { image, taken, is_whole: self.step == Step::Whole })
    }

    fn len_of_field(&self) -> usize {
        match self.step {
            Step::ShortPath => 1,
            Step::Signature => SIGNATURE.len(),
            _ => 4,
        }
    }

    /// The field is there: what follows it?
    fn next(&mut self) -> Result<(), ImageError> {
        assert_eq!(self.skip, 0, "a field is read before its place");
        let (skip, step) = match self.step {
            Step::Sessions => (u64::from(self.count()) * SESSION, Step::Acls),
            Step::Acls => acl_list(self.count()),
            Step::AclEntries { lists } => acl_entry(self.count(), lists),
            Step::AclScheme { entries, lists } => (self.len()?.unwrap_or(0), Step::AclId { entries, lists }),
            Step::AclId { entries, lists } => {
                let (skip, step) = acl_entry(entries, lists);
                (self.len()?.unwrap_or(0) + skip, step)
            }
            Step::PathLen => match self.len()? {
                None => return Err(self.bad("a znode without a path")),
                Some(1) => (0, Step::ShortPath),
                Some(len) => (len, Step::DataLen),
            },
            Step::ShortPath if self.field == b"/" => (0, Step::Signature),
            Step::ShortPath => (0, Step::DataLen),
            Step::DataLen => (self.len()?.unwrap_or(0) + ACL_AND_STAT, Step::PathLen),
            Step::Signature if self.field == SIGNATURE => (0, Step::Whole),
            Step::Signature => return Err(self.bad("no signature behind the last znode")),
            Step::Whole => unreachable!("nothing is read behind the signature"),
        };
        (self.skip, self.step) = (skip, step);
        self.field.clear();
        Ok(())
    }

    fn number(&self) -> i32 {
        self.field.first_chunk().map_or(0, |bytes| i32::from_be_bytes(*bytes))
    }

    /// A count. A negative one is none, as in Java's loops.
    fn count(&self) -> u32 {
        assert_eq!(self.field.len(), 4, "a count");
        u32::try_from(self.number()).unwrap_or(0)
    }

    /// A length; `None` for -1, which is null.
    fn len(&self) -> Result<Option<u64>, ImageError> {
        assert_eq!(self.field.len(), 4, "a length");
        match self.number() {
            -1 => Ok(None),
            len => u64::try_from(len).map(Some).map_err(|_| self.bad("a negative length")),
        }
    }

    fn bad(&self, what: &'static str) -> ImageError {
        ImageError { at: self.at, what }
    }
}

/// What comes when `lists` ACLs are left: the number of the next one, which is passed over, and its length.
fn acl_list(lists: u32) -> (u64, Step) {
    match lists.checked_sub(1) {
        None => (0, Step::PathLen),
        Some(lists) => (8, Step::AclEntries { lists }),
    }
}

/// What comes when `entries` of an ACL are left, and `lists` behind it: permissions, which are passed over, and a scheme.
fn acl_entry(entries: u32, lists: u32) -> (u64, Step) {
    match entries.checked_sub(1) {
        None => acl_list(lists),
        Some(entries) => (4, Step::AclScheme { entries, lists }),
    }
}
