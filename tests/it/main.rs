//! All integration tests, in one binary, because linking is slow.
#![expect(
    clippy::disallowed_methods,
    reason = "tests measure and wait on the machine's time"
)]

mod assets;
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
mod live_source;
mod loops;
mod outputs;
mod playback;
mod privacy;
mod protocol;
mod readme;
mod recordings;
mod recovery;
mod replay;
mod rtsp;
mod service;
mod setup;
mod tidy;
mod tracks;
mod transcripts;
mod wav;
mod web_cameras;
