//! Integration tests: one binary, a module per subject.

mod devices;
mod recordings;
mod rtsp;
