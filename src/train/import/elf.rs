//! Reads the data symbols of an ELF file. They give access to weights that are compiled into a
//! shared library.

use std::collections::BTreeMap;

use anyhow::{Context, ensure};

/// Length of a section header, in bytes (64-bit ELF).
const SECTION_BYTES: usize = 64;
/// Length of a symbol, in bytes (64-bit ELF).
const SYMBOL_BYTES: usize = 24;
/// Type of the section with the symbol table (`SHT_SYMTAB`).
const SYMBOL_TABLE: u32 = 2;
/// Type of a symbol that is data (`STT_OBJECT`).
const OBJECT: u8 = 1;

/// The fields of a section header that are used here.
struct Section {
    /// Type of the section (`sh_type`).
    kind: u32,
    /// Virtual address.
    address: u64,
    /// Position in the file, in bytes.
    offset: u64,
    /// Length in bytes.
    size: u64,
    /// For a symbol table: number of the section with the symbols' names.
    link: u32,
}

/// The `N` bytes from position `at` on. Fails if the file is too short.
fn take<const N: usize>(bytes: &[u8], at: usize) -> anyhow::Result<[u8; N]> {
    bytes
        .get(at..)
        .and_then(|rest| rest.first_chunk::<N>())
        .copied()
        .context("the file is cut")
}

fn u16_at(bytes: &[u8], at: usize) -> anyhow::Result<u16> {
    Ok(u16::from_le_bytes(take(bytes, at)?))
}

fn u32_at(bytes: &[u8], at: usize) -> anyhow::Result<u32> {
    Ok(u32::from_le_bytes(take(bytes, at)?))
}

fn u64_at(bytes: &[u8], at: usize) -> anyhow::Result<u64> {
    Ok(u64::from_le_bytes(take(bytes, at)?))
}

/// The `size` bytes from position `offset` on. Fails if the file is too short.
fn slice(bytes: &[u8], offset: u64, size: u64) -> anyhow::Result<&[u8]> {
    let start = usize::try_from(offset)?;
    let end = start
        .checked_add(usize::try_from(size)?)
        .context("the file is cut")?;
    bytes.get(start..end).context("the file is cut")
}

/// The data symbols of a 64-bit little-endian ELF file: the content of each by its name.
///
/// # Errors
/// The file is of another kind, truncated, or without a symbol table.
pub fn data_symbols(bytes: &[u8]) -> anyhow::Result<BTreeMap<&str, &[u8]>> {
    ensure!(
        bytes.starts_with(b"\x7fELF\x02\x01"),
        "this is no 64-bit little-endian ELF file"
    );
    let (first, count) = (
        usize::try_from(u64_at(bytes, 0x28)?)?,
        usize::from(u16_at(bytes, 0x3C)?),
    );
    let sections = (0..count)
        .map(|i| {
            let at = first
                .checked_add(i * SECTION_BYTES)
                .context("the file is cut")?;
            Ok(Section {
                kind: u32_at(bytes, at + 4)?,
                address: u64_at(bytes, at + 0x10)?,
                offset: u64_at(bytes, at + 0x18)?,
                size: u64_at(bytes, at + 0x20)?,
                link: u32_at(bytes, at + 0x28)?,
            })
        })
        .collect::<anyhow::Result<Vec<_>>>()?;
    let table = sections
        .iter()
        .find(|s| s.kind == SYMBOL_TABLE)
        .context("the file has no symbol table")?;
    let names = sections
        .get(table.link as usize)
        .context("the symbol table has no names")?;
    let (symbols, names) = (
        slice(bytes, table.offset, table.size)?,
        slice(bytes, names.offset, names.size)?,
    );
    let mut found = BTreeMap::new();
    for symbol in symbols.as_chunks::<SYMBOL_BYTES>().0 {
        let section = usize::from(u16_at(symbol, 6)?);
        let (value, size) = (u64_at(symbol, 8)?, u64_at(symbol, 16)?);
        let Some(section) = sections
            .get(section)
            .filter(|_| symbol[4] & 0xF == OBJECT && size > 0)
        else {
            continue;
        };
        let name = names
            .get(u32_at(symbol, 0)? as usize..)
            .and_then(|rest| rest.split(|b| *b == 0).next())
            .and_then(|name| std::str::from_utf8(name).ok());
        // A symbol whose bytes are not inside the file (.bss) is left out; it is not a weight.
        let data = value
            .checked_sub(section.address)
            .and_then(|within| slice(bytes, section.offset.checked_add(within)?, size).ok());
        if let (Some(name), Some(data)) = (name, data) {
            found.insert(name, data);
        }
    }
    Ok(found)
}
