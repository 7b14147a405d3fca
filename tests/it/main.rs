
mod config;
mod service;
