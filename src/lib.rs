//! # expressd: a real-time expression sensor
//!
//! Camera and microphone in, expression events out. This page is the map. [`architecture`] defines
//! the terms and gives the reasons and rules. The wire protocol is in [`event::protocol`], the
//! trainer's method in `train::method`.
//!
//! Responsibilities of the modules:
//!
//! | step | module |
//! |---|---|
//! | a frame's stamp | `FrameDelivery::pace` in `capture/delivery.rs` |
//! | the stamp of a recording's sound | `SoundDelivery::send` in `capture/delivery.rs` |
//! | a microphone block's stamp | `capture/microphone.rs`, by [`time::ClockMap`] |
//! | choice of frames for the detector, face tracks | `session/vision.rs`, [`face`] |
//! | faces and sound become a clip | [`align`]: `Aligner::cut_clip` in `align/cut.rs` |
//! | a clip becomes scores | [`recognize`] |
//! | a result becomes an event | `session/events.rs`, [`event`] |
//! | the threads, and commands to a running session | [`runtime`] |
//! | opening of sources, status, systemd | [`daemon`] |
//!
//! Places of additions (more in `CONTRIBUTING.md`):
//!
//! | addition | files |
//! |---|---|
//! | a line-based sink (file, FIFO, standard output) | `FORMATS` in `hub/sinks/lines.rs`, its key |
//! | any other sink | `hub/sinks/<name>.rs` ([`hub::Sink`]), its entry in `hub/sinks/mod.rs` |
//! | an event type | `event.rs`, `event/protocol.md`, `session/events.rs`, which makes it |
//! | a configuration key | `config/keys.rs`, `config/expressd.toml` (generated), its use |
//! | a data set | `train/data/<name>.rs`, its line in `LOADERS` (`train/data/mod.rs`) |
//! | a loss of pre-training | `train/objective/{<name>,mod}.rs`, a recipe in `config/train/` |
//!
//! The macro `events!` in `event.rs` lists all types; filters, the ring and the terminal need no
//! change. Tests compare the list with `event/protocol.md`, and the keys with
//! `config/expressd.toml`. `config/stages.rs` (faces, speech) and `session/plan.rs` (windows, the
//! queue) convert keys to settings of the stages.
//!
//! [`session`] is the pipeline without threads, sockets or clocks. [`runtime`] runs its stages on
//! threads, live and in a replay. Extraction drives it on the calling thread.
//!
//! ```text
//! camera / file / rtsp                        microphone / file
//!   │ GStreamer streaming thread; recordings    │ cpal callback: stamp, copy into the ring;
//!   │ in a decoder process, by shared memory    │ never block, allocate or log
//!   ▼ lane frames                               ▼ ringbuf (SPSC; full → drop newest, count)
//!  thread "faces": track every frame,          thread "speech": voice activity, turns
//!    align, crop; "detect" beside it: late       │ "transcribe" beside it: words of turns, if
//!    when live, read ahead when replaying        │ enabled; live, no stage waits for it
//!   ▼ lane faces                                ▼ lane audio
//!         └───────────► thread "align": Aligner, one timeline, canonical order ◄─┘
//!                               ▼ Schedule: a slot per subject (live: latest wins; replay: block)
//!                        thread "infer": owns every encoder Graph; Clip → Recognition;
//!                          "text" beside it, live: words; the wait for it is bounded
//!                               ▼ hub: ring of typed events, each serialised once; publishing
//!                               never waits
//!              thread "serve": tokio          sinks: "jsonl", "terminal", a thread each
//! ```
//!
//! No later stage can slow capture. When live, a full lane drops an item, most lanes the oldest, so
//! that results stay current. In a replay it blocks, so that nothing is lost. [`lane::WhenFull`] is
//! this choice.
//!
//! Settings come from three places that do not overlap. The *configuration* has devices, port and
//! budgets. The bundle's *manifest* has everything that changes a number of the model's input. The
//! *command line* has the verb and paths.
//!
//! Invariants:
//! * Only [`time`] reads the system's clock, and only `capture` makes stamps.
//! * [`align`], [`schedule`], [`clip`] and [`session`] use no thread, clock or socket.
//! * tokio is used in `serve` and in the fan-out measurement of `bin/expressd/bench`. A sink in
//!   `hub/sinks` that needs it may use it in its own file. `hub` itself uses one type of
//!   tokio-tungstenite, the text of a frame.
//! * Only types of [`event`] are serialised for clients.
//! * Sibling modules do not import each other in a cycle.

#[doc = include_str!("architecture.md")]
pub mod architecture {}

pub mod address;
pub mod assets;
pub mod causes;
mod sync;
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
