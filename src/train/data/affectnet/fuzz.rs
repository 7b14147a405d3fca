//! Fuzz test of the reader of NumPy files.

use super::npy::parse;
use super::npy::testing::file;
use crate::testing::fuzz::Target;

#[test]
fn mutated_numpy_files_are_read_or_refused_without_a_panic() {
    Target::bytes("npy", 6000)
        .seeds([
            file("<U1", "()", b"5\0\0\0"),
            file("|S2", "(1,)", b"3\0"),
            file("<i8", "()", &2i64.to_le_bytes()),
            file("<f4", "(1, 1)", &1f32.to_le_bytes()),
        ])
        .words(&["descr", "shape", "'", "(", ")", "<U18446744073709551615"])
        .run(|input| {
            if let Err(what) = parse(input) {
                assert!(!what.trim().is_empty());
            }
        });
}
