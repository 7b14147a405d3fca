//! Control of the C allocator's memory.

/// Returns free pages of the C allocator to the operating system; no effect without glibc. Opening
/// a graph allocates several times the memory of the open graph: the file, its parsed form, and
/// weights in their original layout. glibc otherwise keeps most of these pages.
pub fn return_freed_memory() {
    #[cfg(target_env = "gnu")]
    {
        unsafe extern "C" {
            /// See malloc_trim(3) of glibc.
            safe fn malloc_trim(pad: usize) -> std::ffi::c_int;
        }
        malloc_trim(0);
    }
}
