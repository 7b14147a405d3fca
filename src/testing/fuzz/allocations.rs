//! Memory that a thread allocates. The unit tests of the library run with this allocator.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The system's allocator, with counts for each thread.
struct Counting;

thread_local! {
    /// Bytes allocated minus bytes freed on this thread, since the last [`peak`]. Negative where
    /// older memory was freed.
    static HELD: Cell<isize> = const { Cell::new(0) };
    /// The maximum of `HELD`.
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

/// Counts a change of this thread's memory.
fn count(bytes: isize) {
    // A thread that is ending has no counts.
    let _ = HELD.try_with(|held| {
        let now = held.get().wrapping_add(bytes);
        held.set(now);
        PEAK.with(|peak| peak.set(peak.get().max(now)));
    });
}

// SAFETY: every call is passed on to the system's allocator, unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size as isize - layout.size() as isize);
        unsafe { System.realloc(memory, layout, size) }
    }
}

/// The most bytes that `run` held at one time on this thread, beyond those from before.
pub(super) fn peak(run: impl FnOnce()) -> usize {
    HELD.set(0);
    PEAK.set(0);
    run();
    PEAK.get().max(0) as usize
}
