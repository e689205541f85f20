//! Gives memory that a burst of load needed back to the system. In ZooKeeper that is the JVM's business.
//!
//! mimalloc, the allocator of the binary, returns memory that was freed a second ago, but only when something else is
//! freed: after a burst it would keep everything. It also asks the kernel for huge pages unless its feature `no_thp` is
//! on. With huge pages little could be returned, because the kernel fills the holes in them again with zeros.

// Its C part is linked wherever the crate is used.
use mimalloc as _;

unsafe extern "C" {
    /// Returns memory that the whole process has freed, and memory that the calling thread keeps ready.
    fn mi_collect(force: bool);
}

/// Returns unused memory. To be called from time to time by a thread that keeps little and that nobody waits for. It
/// does not stop other threads; they can allocate again what they need.
pub(super) fn give_back() {
    // SAFETY: any thread may call it at any time, also where mimalloc is not the allocator.
    unsafe { mi_collect(true) };
}
