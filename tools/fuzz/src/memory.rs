//! An allocator that ends the process when more is asked for than any input may cost. libFuzzer's own limit looks at resident
//! pages, and a zeroed buffer as long as a length that lies is not resident.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes that all living allocations together may have.
const LIMIT: usize = 512 << 20;

/// The system's allocator with a limit.
pub struct Bounded;

static LIVING: AtomicUsize = AtomicUsize::new(0);

fn grow(bytes: usize) {
    // Only a count: nothing is published by it.
    if LIVING.fetch_add(bytes, Ordering::Relaxed) + bytes > LIMIT {
        const WHY: &str = "more memory was asked for than any input may cost\n";
        // No unwinding out of an allocator, and nothing here may allocate.
        std::io::Write::write_all(&mut std::io::stderr(), WHY.as_bytes()).ok();
        std::process::abort();
    }
}

fn shrink(bytes: usize) {
    LIVING.fetch_sub(bytes, Ordering::Relaxed);
}

// SAFETY: everything is passed on to `System` as it is.
unsafe impl GlobalAlloc for Bounded {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        grow(layout.size());
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        grow(layout.size());
        // SAFETY: the caller's promise.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        shrink(layout.size());
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        grow(size);
        shrink(layout.size());
        // SAFETY: the caller's promise.
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
