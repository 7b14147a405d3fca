//! Integration tests: one binary, a module per subject.

mod devices;
mod generate;
mod recordings;
mod rtsp;
