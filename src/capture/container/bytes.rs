//! Integers from byte slices. Every function returns `None` beyond the end of the slice, and never
//! panics.

/// The `N` bytes from byte `at` on; `None` beyond the end.
pub(super) fn array<const N: usize>(data: &[u8], at: usize) -> Option<[u8; N]> {
    data.get(at..at.checked_add(N)?)?.try_into().ok()
}

/// The big-endian 16-bit integer at byte `at`; `None` beyond the end.
pub(super) fn be16(data: &[u8], at: usize) -> Option<u16> {
    array(data, at).map(u16::from_be_bytes)
}

/// The big-endian 32-bit integer at byte `at`; `None` beyond the end.
pub(super) fn be32(data: &[u8], at: usize) -> Option<u32> {
    array(data, at).map(u32::from_be_bytes)
}

/// The big-endian 64-bit integer at byte `at`; `None` beyond the end.
pub(super) fn be64(data: &[u8], at: usize) -> Option<u64> {
    array(data, at).map(u64::from_be_bytes)
}

/// The little-endian 16-bit integer at byte `at`; `None` beyond the end.
pub(super) fn le16(data: &[u8], at: usize) -> Option<u16> {
    array(data, at).map(u16::from_le_bytes)
}

/// The little-endian 32-bit integer at byte `at`; `None` beyond the end.
pub(super) fn le32(data: &[u8], at: usize) -> Option<u32> {
    array(data, at).map(u32::from_le_bytes)
}

/// The little-endian 64-bit integer at byte `at`; `None` beyond the end.
pub(super) fn le64(data: &[u8], at: usize) -> Option<u64> {
    array(data, at).map(u64::from_le_bytes)
}

/// A four-character code as text; bytes that cannot be printed become dots.
pub(super) fn code(bytes: [u8; 4]) -> String {
    let printable = |byte: u8| match byte {
        b' '..=b'~' => char::from(byte),
        _ => '.',
    };
    let text: String = bytes.map(printable).iter().collect();
    text.trim().to_owned()
}

/// Duration of `ticks` at `rate` ticks per second in nanoseconds, rounded down as GStreamer does.
pub(super) fn nanos(ticks: i64, rate: u32) -> i64 {
    let nanos = i128::from(ticks) * 1_000_000_000 / i128::from(rate.max(1));
    nanos.clamp(i128::from(i64::MIN / 2), i128::from(i64::MAX / 2)) as i64
}
