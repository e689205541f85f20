//! Memory that a burst needed goes back to the system when it is over. ZooKeeper leaves that to the JVM.
//!
//! mimalloc gives freed pages back a second later, but only when something else is freed then: after a burst it would keep them.
//! And it asks the kernel for huge pages (a cargo feature, `no_thp`, stops that), with which nothing can be given back but two
//! megabytes at a time: the kernel fills holes in a huge page again, with zeros.

// The allocator of the binary, and whose functions are called here.
use mimalloc as _;

unsafe extern "C" {
    /// Gives back what the whole process has freed a while ago; `force`: also what was freed just now.
    fn mi_collect(force: bool);
}

/// Gives back what nobody has needed for about a second. To be called by a thread that nobody waits for; it does not stop others.
pub(super) fn give_back() {
    // SAFETY: it may be called by any thread at any time, also when mimalloc is not the allocator.
    unsafe { mi_collect(false) };
}
