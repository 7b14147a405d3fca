//! A global allocator that measures the memory of each thread. The unit tests of the library run
//! with it.
//!
//! While a thread is measured, it may hold at most [`REFUSED_BYTES`]. An allocation beyond this
//! limit fails, which aborts the program; otherwise the machine could run out of memory before the
//! measurement ends.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// Limit of the memory that a measured thread may hold, in bytes: more than any parser under test
/// needs.
const REFUSED_BYTES: isize = 1 << 30;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The system's allocator with counts for each thread.
struct Counting;

thread_local! {
    /// Bytes allocated minus bytes freed on this thread since the start of [`peak`]. Negative if
    /// memory from before was freed.
    static HELD: Cell<isize> = const { Cell::new(0) };
    /// The maximum of `HELD` since the start of [`peak`].
    static PEAK: Cell<isize> = const { Cell::new(0) };
    /// The limit of `HELD`.
    static LIMIT: Cell<isize> = const { Cell::new(isize::MAX) };
}

/// Counts a change of this thread's memory by `bytes`. Returns false if the change would exceed the
/// limit; it is then not counted.
fn count(bytes: isize) -> bool {
    // The thread-local cells have no destructor, so they can be used until the thread ends.
    let now = HELD.get().wrapping_add(bytes);
    if bytes > 0 && now > LIMIT.get() {
        // A refused allocation counts for the peak, also if the code continues after it.
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

/// Runs `run` and returns the largest number of bytes that it held at one time on this thread.
/// Memory from before does not count.
pub(super) fn peak(run: impl FnOnce()) -> usize {
    /// Removes the limit when dropped, also after a panic.
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
