//! One integration binary: linking is slow.
#![expect(clippy::disallowed_methods, reason = "tests measure and wait on the machine's time")]

mod bad_input;
mod config;
mod daemon;
mod harness;
mod recordings;
mod replay;
mod service;
mod tidy;
