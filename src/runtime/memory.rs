//! Memory that a burst needed goes back to the system when it is over. ZooKeeper leaves that to the JVM.
//!
//! mimalloc, the binary's allocator, gives back what was freed a second ago, but only when something else is freed then: after
//! a burst it would keep all. And it asks the kernel for huge pages unless its feature `no_thp` is on. With them little can be
//! given back: the kernel fills the holes in a huge page again, with zeros.

// Its C half is linked wherever the crate is used.
use mimalloc as _;

unsafe extern "C" {
    /// Gives back what the whole process has freed, and of the calling thread what it holds ready.
    fn mi_collect(force: bool);
}

/// Gives back what is free now. To be called now and then by a thread that holds little and that nobody waits for. Does not stop
/// others: what they need again they get again.
pub(super) fn give_back() {
    // SAFETY: any thread may call it at any time, also where mimalloc is not the allocator.
    unsafe { mi_collect(true) };
}
