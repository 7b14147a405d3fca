//! Memory of the C allocator.

/// Gives pages that the C allocator holds for later back to the system. Opening a graph frees
/// several times the memory that the open graph keeps: the file, its parsed form, and weights in
/// their original layout. glibc keeps most of these pages until it is asked.
pub fn return_freed_memory() {
    #[cfg(target_env = "gnu")]
    {
        unsafe extern "C" {
            /// glibc's, malloc_trim(3).
            safe fn malloc_trim(pad: usize) -> std::ffi::c_int;
        }
        malloc_trim(0);
    }
}
