//! Data symbols of an ELF file. Weights that are compiled into a shared library are found by their
//! symbols.

use std::collections::BTreeMap;

use anyhow::{Context, ensure};

/// Bytes of a section header and of a symbol, and a symbol table's type (64-bit ELF).
const SECTION_BYTES: usize = 64;
const SYMBOL_BYTES: usize = 24;
const SYMBOL_TABLE: u32 = 2;
/// The symbol type of data.
const OBJECT: u8 = 1;

struct Section {
    kind: u32,
    address: u64,
    offset: u64,
    size: u64,
    link: u32,
}

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

fn slice(bytes: &[u8], offset: u64, size: u64) -> anyhow::Result<&[u8]> {
    let start = usize::try_from(offset)?;
    let end = start
        .checked_add(usize::try_from(size)?)
        .context("the file is cut")?;
    bytes.get(start..end).context("the file is cut")
}

/// The data symbols of a 64-bit little-endian ELF file: bytes by name.
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
        // Data without bytes in the file (.bss) lies past its section's offset; it is no weight.
        let data = value
            .checked_sub(section.address)
            .and_then(|within| slice(bytes, section.offset.checked_add(within)?, size).ok());
        if let (Some(name), Some(data)) = (name, data) {
            found.insert(name, data);
        }
    }
    Ok(found)
}
