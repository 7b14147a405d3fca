//! Memory that a thread allocates. The unit tests of the library run with this allocator.
//!
//! While a thread is measured, it gets at most [`REFUSED_BYTES`]: an allocation beyond them fails,
//! which aborts the program, because the machine could run out of memory before the measurement
//! ends.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// No parser under test needs as much.
const REFUSED_BYTES: isize = 1 << 30;

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
    /// The bound of `HELD`.
    static LIMIT: Cell<isize> = const { Cell::new(isize::MAX) };
}

/// Counts a change of this thread's memory. `false`: it would exceed the limit, and is not counted.
fn count(bytes: isize) -> bool {
    // Cells without a destructor exist until the end of the thread.
    let now = HELD.get().wrapping_add(bytes);
    if bytes > 0 && now > LIMIT.get() {
        // Code that continues after a refusal has asked for it all the same.
        PEAK.set(PEAK.get().max(now));
        return false;
    }
    HELD.set(now);
    PEAK.set(PEAK.get().max(now));
    true
}

// SAFETY: every call is passed on to the system's allocator unchanged, or fails.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match count(layout.size() as isize) {
            true => unsafe { System.alloc(layout) },
            false => std::ptr::null_mut(),
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        match count(layout.size() as isize) {
            true => unsafe { System.alloc_zeroed(layout) },
            false => std::ptr::null_mut(),
        }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        match count(size as isize - layout.size() as isize) {
            true => unsafe { System.realloc(memory, layout, size) },
            false => std::ptr::null_mut(),
        }
    }
}

/// The most bytes that `run` held at one time on this thread, beyond those from before.
pub(super) fn peak(run: impl FnOnce()) -> usize {
    /// Removes the limit, also after a panic.
    struct Measurement;
    impl Drop for Measurement {
        fn drop(&mut self) {
            LIMIT.set(isize::MAX);
        }
    }
    HELD.set(0);
    PEAK.set(0);
    LIMIT.set(REFUSED_BYTES);
    let measurement = Measurement;
    run();
    drop(measurement);
    PEAK.get().max(0) as usize
}
