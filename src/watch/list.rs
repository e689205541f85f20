//! The ends of a doubly linked list of watch records.

/// No record.
pub(super) const NIL: u32 = u32::MAX;

/// A doubly linked list of watch records.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct List {
    pub(super) head: u32,
    pub(super) tail: u32,
    pub(super) len: u32,
    /// Whether its records are in the index: from the time it grows longer than `SHORT` until it is empty.
    pub(super) indexed: bool,
}

impl List {
    pub(super) const EMPTY: List = List { head: NIL, tail: NIL, len: 0, indexed: false };
}
