//! # expressd: a real-time expression sensor
//!
//! Camera and microphone in, expression events out. This page is the map. The reasons and rules are
//! in [`architecture`], what clients see in [`event::protocol`], what the trainer implements in
//! `train::method`.
//!
//! Where things are made and where additions go:
//!
//! | what | where |
//! |---|---|
//! | a frame's or a block's stamp | [`capture`] (`delivery.rs`), by [`time::ClockMap`] |
//! | which frames the detector sees, which faces are tracked | `session/vision.rs`, [`face`] |
//! | faces and sound become a clip | [`align`] |
//! | a clip becomes scores | [`recognize`] |
//! | a result becomes an event | `session/events.rs`, [`event`] |
//! | the threads, and commands to a running session | [`runtime`] |
//! | which sources are opened, status, systemd | [`daemon`] |
//!
//! One session: [`session`] is the pipeline without threads, sockets or clocks; [`runtime`] gives
//! its stages threads (live and in a replay); extraction drives it on the calling thread.
//!
//! ```text
//! camera / file / rtsp                        microphone / file
//!   │ GStreamer streaming thread; recordings    │ cpal callback: stamp, copy into the ring; never block, allocate or log
//!   │ in a decoder process, by shared memory    │
//!   ▼ lane frames                               ▼ ringbuf (SPSC; full → drop newest, count)
//!  thread "faces": track every frame,          thread "speech": voice activity, turns
//!    align, crop; "detect" beside it: late       │ "transcribe" beside it: words of turns, where
//!    when live, read ahead when replaying        │ wanted; live nothing waits for them
//!   ▼ lane faces                                ▼ lane audio
//!         └───────────► thread "align": Aligner, one timeline, canonical order ◄─┘
//!                               ▼ Schedule: a slot per subject (latest wins live, block when replaying)
//!                        thread "infer": owns every encoder Graph; Clip → Recognition;
//!                          "text" beside it, live: words, for which nothing waits long
//!                               ▼ hub: ring of typed events, each serialised once; publishing
//!                               never waits
//!              thread "serve": tokio          sinks: "jsonl", "terminal", a thread each
//! ```
//!
//! Nothing downstream can slow capture. Staleness is the enemy when live, loss when replaying: that one difference is [`lane::WhenFull`].
//!
//! Three sources of truth that do not overlap: the *configuration* says where (devices, port, budgets), the bundle's *manifest* says
//! what (everything that changes a number the model sees), the *command line* says which (verb, paths).
//!
//! Invariants: only [`time`] reads the system's clock, only `capture` makes stamps; [`align`],
//! [`schedule`], [`clip`] and [`session`] know no thread, no clock and no socket; tokio stays in
//! `serve` and inside single sinks; nothing but [`event`] is serialised for clients.

#[doc = include_str!("architecture.md")]
pub mod architecture {}

pub mod address;
pub mod assets;
pub mod causes;
pub mod time;

pub mod clip;
pub mod labels;
pub mod manifest;
pub mod modality;

pub mod lane;

#[cfg(feature = "capture")]
pub mod capture;
pub mod encode;
pub mod face;
pub mod speech;

pub mod align;
pub mod model;
#[cfg(feature = "sentence")]
pub mod onnx;
pub mod preprocess;
pub mod recognize;
pub mod schedule;

pub mod event;

#[cfg(all(feature = "capture", feature = "serve"))]
pub mod runtime;
pub mod session;

pub mod config;

#[cfg(feature = "serve")]
pub mod hub;

#[cfg(feature = "serve")]
pub mod serve;

#[cfg(feature = "serve")]
pub mod notify;
pub mod output;

#[cfg(all(feature = "capture", feature = "serve"))]
pub mod daemon;

#[cfg(feature = "corpus")]
pub mod train;

#[doc(hidden)]
pub mod testing;
