//! Memory of the C allocator.

/// Returns free pages of the C allocator to the system. Opening a graph allocates several times the
/// memory of the open graph: the file, its parsed form, and weights in their original layout. glibc
/// keeps most of these pages otherwise.
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
