//! Integration tests, in one binary.

mod fanout;
mod protocol;
