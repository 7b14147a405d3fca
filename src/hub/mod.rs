//! The ring of published events and its readers: cursors (one per socket) and sinks.
//!
//! | to add | go to |
//! |---|---|
//! | an output of lines | its entry in `FORMATS` (`sinks/lines.rs`), its key |
//! | another output | a [`Sink`] in a file of `sinks`, its entry in `sinks/mod.rs` |
//! | a key that subscriptions filter by | `FilterKeys` in `filter.rs` |

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
