//! Integration tests, in one binary.

mod clients;
mod fanout;
mod protocol;
