//! The ring of published events, and its readers: cursors (one for each socket) and sinks.
//!
//! | addition | places |
//! |---|---|
//! | a line-based output | an entry in `FORMATS` (`sinks/lines.rs`), a configuration key |
//! | any other output | a [`Sink`] in a file of `sinks`, an entry in `sinks/mod.rs` |
//! | an event field that subscriptions filter by | `FilterKeys` in `filter.rs` |

pub mod cursor;
mod filter;
mod follower;
mod memory;
mod missed;
pub mod out_file;
pub mod ring;
pub mod sink;
pub mod sinks;
#[cfg(test)]
mod testing;

pub use cursor::{Cursor, Next};
pub use missed::Missed;
pub use ring::{Published, Read, Reader, Ring};
pub use sink::{LossPolicy, Sink, SinkError};
pub use sinks::{FollowingSinks, JsonLines, Sinks, SinksError};
