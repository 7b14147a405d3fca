//! One integration binary: linking is slow.
#![expect(
    clippy::disallowed_methods,
    reason = "tests measure and wait on the machine's time"
)]

mod bad_input;
mod cameras;
mod clients;
mod config;
mod containers;
mod daemon;
mod decoder;
mod devices;
mod faces;
mod fanout;
mod generate;
mod harness;
mod healing;
mod outputs;
mod privacy;
mod protocol;
mod readme;
mod recordings;
mod replay;
mod rtsp;
mod service;
mod setup;
mod tidy;
mod tracks;
mod watching;
mod waves;
mod web_cameras;
mod words;
