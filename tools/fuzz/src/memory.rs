//! An allocator that ends the process if more memory is requested than any input may need. libFuzzer's own limit only
//! counts resident pages, and a zeroed buffer that a wrong length asks for is not resident.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Most bytes of all live allocations together.
const LIMIT: usize = 512 << 20;

/// The system's allocator with a limit.
pub struct Bounded;

static LIVING: AtomicUsize = AtomicUsize::new(0);

fn grow(bytes: usize) {
    // Relaxed is enough: this is only a count.
    if LIVING.fetch_add(bytes, Ordering::Relaxed) + bytes > LIMIT {
        const WHY: &str = "more memory was asked for than any input may cost\n";
        // An allocator must not unwind, and nothing here may allocate.
        std::io::Write::write_all(&mut std::io::stderr(), WHY.as_bytes()).ok();
        std::process::abort();
    }
}

fn shrink(bytes: usize) {
    LIVING.fetch_sub(bytes, Ordering::Relaxed);
}

// SAFETY: every call is passed on to `System` unchanged.
unsafe impl GlobalAlloc for Bounded {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        grow(layout.size());
        // SAFETY: guaranteed by the caller.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        grow(layout.size());
        // SAFETY: guaranteed by the caller.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        shrink(layout.size());
        // SAFETY: guaranteed by the caller.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        grow(size);
        shrink(layout.size());
        // SAFETY: guaranteed by the caller.
        unsafe { System.realloc(at, layout, size) }
    }
}

/// Makes [`Bounded`] the allocator of a binary.
#[macro_export]
macro_rules! bounded_memory {
    () => {
        #[global_allocator]
        static MEMORY: $crate::memory::Bounded = $crate::memory::Bounded;
    };
}
