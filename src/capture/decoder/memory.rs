//! Shared memory of a decoder process and its parent. The child writes pictures into slots; the
//! parent reads them there and frees the slots.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use memmap2::{MmapOptions, MmapRaw};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};

use super::wire::Slot;

/// Size of a memory page in bytes; slots begin and end on pages.
const PAGE_BYTES: usize = 4096;
/// Largest number of slots: the first page holds one state word of four bytes for each slot.
const MAX_SLOTS: usize = PAGE_BYTES / 4;
/// Size in bytes of the largest slot, enough for a picture of 16,384 by 16,384 pixels.
const MAX_SLOT_BYTES: usize = 1 << 30;
/// State of a slot into which the child may write.
const FREE: u32 = 0;
/// State of a slot that holds a picture for the parent.
const TAKEN: u32 = 1;

/// The state words of the slots: [`FREE`] or [`TAKEN`].
#[derive(Debug)]
struct SlotStates(MmapRaw);

impl SlotStates {
    /// Maps the first page of the shared memory.
    fn map(file: &File) -> io::Result<SlotStates> {
        Ok(SlotStates(
            MmapOptions::new().len(PAGE_BYTES).map_raw(file)?,
        ))
    }

    /// The state word of slot `index`.
    fn word(&self, index: usize) -> &AtomicU32 {
        assert!(index < MAX_SLOTS);
        // SAFETY: the mapping is one page, aligned, and lives as long as `self`; all accesses in
        // either process are atomic.
        unsafe { AtomicU32::from_ptr(self.0.as_mut_ptr().cast::<u32>().add(index)) }
    }
}

/// The child's end of the shared memory, which writes pictures.
#[derive(Debug)]
pub(super) struct Writer {
    file: File,
    states: SlotStates,
    slots: Vec<(Slot, MmapRaw)>,
    end: u64,
}

impl Writer {
    /// Uses the shared memory behind a descriptor from the parent.
    pub fn new(memory: OwnedFd) -> io::Result<Writer> {
        let file = File::from(memory);
        Ok(Writer {
            states: SlotStates::map(&file)?,
            file,
            slots: Vec::new(),
            end: PAGE_BYTES as u64,
        })
    }

    /// Copies `bytes` into a free slot and returns the slot. Slots are added if none is free; at
    /// the limit of [`MAX_SLOTS`] the call blocks until the parent frees one.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<Slot> {
        let at = loop {
            let free = self.slots.iter().position(|(slot, _)| {
                slot.capacity >= bytes.len()
                    && self.states.word(slot.index).load(Ordering::Acquire) == FREE
            });
            match free {
                Some(at) => break at,
                None if self.slots.len() < MAX_SLOTS => break self.add(bytes.len())?,
                // The parent holds more pictures than any stage needs, and has to free some first.
                None => std::thread::sleep(Duration::from_millis(2)),
            }
        };
        let (slot, mapping) = &self.slots[at];
        // SAFETY: the slot is at least this long, and nothing reads it while it is free.
        unsafe {
            std::slice::from_raw_parts_mut(mapping.as_mut_ptr(), bytes.len())
                .copy_from_slice(bytes);
        }
        self.states.word(slot.index).store(TAKEN, Ordering::Release);
        Ok(*slot)
    }

    /// Adds a slot of at least `length` bytes at the end of the memory, and returns its index.
    fn add(&mut self, length: usize) -> io::Result<usize> {
        let capacity = length.next_multiple_of(PAGE_BYTES);
        let slot = Slot {
            index: self.slots.len(),
            offset: self.end,
            capacity,
        };
        self.end += capacity as u64;
        ftruncate(&self.file, self.end)?;
        let mapping = map(&self.file, slot)?;
        self.slots.push((slot, mapping));
        Ok(slot.index)
    }
}

/// The parent's end of the shared memory, which reads pictures.
#[derive(Debug)]
pub(super) struct Reader {
    file: File,
    states: Arc<SlotStates>,
    slots: Vec<Option<(Slot, Arc<MmapRaw>)>>,
}

impl Reader {
    /// Creates shared memory without slots.
    pub fn new() -> io::Result<Reader> {
        let memory = memfd_create(
            "expressd pictures",
            MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING,
        )?;
        ftruncate(&memory, PAGE_BYTES as u64)?;
        // The child cannot shrink the memory that is mapped here.
        fcntl_add_seals(&memory, SealFlags::SHRINK)?;
        let file = File::from(memory);
        Ok(Reader {
            states: Arc::new(SlotStates::map(&file)?),
            file,
            slots: Vec::new(),
        })
    }

    /// The file descriptor of the memory, for the child.
    pub fn memory(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// The first `length` bytes of `slot`, which is freed when the guard is dropped. The error is
    /// `InvalidData` for a slot outside the memory.
    pub fn take(&mut self, slot: Slot, length: usize) -> io::Result<SlotGuard> {
        let invalid = || io::Error::from(io::ErrorKind::InvalidData);
        if slot.index >= MAX_SLOTS || length > slot.capacity || slot.capacity > MAX_SLOT_BYTES {
            return Err(invalid());
        }
        if self.slots.len() <= slot.index {
            self.slots.resize_with(slot.index + 1, || None);
        }
        let known = &mut self.slots[slot.index];
        if known.as_ref().is_none_or(|(known, _)| *known != slot) {
            let end = slot.offset.checked_add(slot.capacity as u64);
            let size = self.file.metadata()?.len();
            if end.is_none_or(|end| end > size) || !slot.offset.is_multiple_of(PAGE_BYTES as u64) {
                return Err(invalid());
            }
            *known = Some((slot, Arc::new(map(&self.file, slot)?)));
        }
        let (_, mapping) = known.as_ref().expect("set above");
        Ok(SlotGuard {
            mapping: mapping.clone(),
            states: self.states.clone(),
            index: slot.index,
            length,
        })
    }
}

/// Maps the memory of one slot.
fn map(file: &File, slot: Slot) -> io::Result<MmapRaw> {
    MmapOptions::new()
        .offset(slot.offset)
        .len(slot.capacity)
        .map_raw(file)
}

/// A picture in a slot. The slot is freed when this value is dropped.
#[derive(Debug)]
pub(super) struct SlotGuard {
    mapping: Arc<MmapRaw>,
    states: Arc<SlotStates>,
    index: usize,
    length: usize,
}

impl AsRef<[u8]> for SlotGuard {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: the mapping is at least this long and cannot shrink. The child writes into free
        // slots only. A child that broke this rule could only garble pictures: every value of a
        // byte is valid.
        unsafe { std::slice::from_raw_parts(self.mapping.as_ptr(), self.length) }
    }
}

impl Drop for SlotGuard {
    fn drop(&mut self) {
        self.states.word(self.index).store(FREE, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_reused_and_the_memory_grows_by_need() {
        let mut reader = Reader::new().unwrap();
        let mut writer = Writer::new(reader.memory().try_clone_to_owned().unwrap()).unwrap();
        let first = writer.write(&[1; 5000]).unwrap();
        let second = writer.write(&[2; 6000]).unwrap();
        assert_eq!((first.index, second.index), (0, 1));
        let taken = reader.take(first, 5000).unwrap();
        let held = reader.take(second, 6000).unwrap();
        assert_eq!(taken.as_ref(), [1; 5000]);
        drop(taken);
        assert_eq!(writer.write(&[3; 4000]).unwrap(), first);
        assert_eq!(held.as_ref(), [2; 6000]);
        let larger = writer.write(&[4; 20_000]).unwrap();
        assert_eq!(larger.index, 2);
        assert_eq!(reader.take(larger, 20_000).unwrap().as_ref(), [4; 20_000]);
    }

    #[test]
    fn a_slot_beyond_the_memory_is_refused() {
        let mut reader = Reader::new().unwrap();
        let mut writer = Writer::new(reader.memory().try_clone_to_owned().unwrap()).unwrap();
        let slot = writer.write(&[1; 100]).unwrap();
        for (index, offset, capacity, length) in [
            (MAX_SLOTS, slot.offset, slot.capacity, 100),
            (0, slot.offset + PAGE_BYTES as u64, slot.capacity, 100),
            (0, slot.offset, slot.capacity + 1, 100),
            (0, slot.offset, slot.capacity, slot.capacity + 1),
            (0, u64::MAX - 10, slot.capacity, 100),
        ] {
            let wrong = Slot {
                index,
                offset,
                capacity,
            };
            assert!(reader.take(wrong, length).is_err(), "{wrong:?}");
        }
        assert!(reader.take(slot, 100).is_ok());
    }
}
