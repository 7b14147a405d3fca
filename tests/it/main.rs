//! One integration binary: linking is slow.
#![expect(clippy::disallowed_methods, reason = "tests measure and wait on the machine's time")]

mod bad_input;
mod config;
mod daemon;
mod fanout;
mod harness;
mod protocol;
mod recordings;
mod readme;
mod replay;
mod service;
mod tidy;
