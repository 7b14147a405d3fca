//! The ring of published events, and those who read it: cursors (one per socket), the terminal, JSON Lines.

pub mod cursor;
mod filter;
pub mod jsonl;
pub mod out_file;
pub mod ring;
pub mod sink_thread;
pub mod terminal;

pub use cursor::{Cursor, Missed, Next};
pub use jsonl::JsonLines;
pub use ring::{Read, Reader, Ring};
