//! Tests of recordings that play in a loop, as if live.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::generate::{AAC, H264, Sound, generate, grey, tone};
use crate::harness::eventually;
use expressd::capture::{AudioSpec, Outputs, Pace, Recording, SourceHealth, VideoSpec, open_live};
use expressd::event::SourceState;
use expressd::lane::{Received, WhenFull, lane};
use expressd::time::{Clock, MediaTime, SystemClock};

/// Creates a recording with 15 pictures and 0.6 s of sound.
fn generate_short(path: &Path) {
    generate(
        path,
        "mp4mux",
        Some(grey((160, 120), H264, 15)),
        Some(Sound {
            rate_hz: 16_000,
            channels: 1,
            encoder: AAC,
            samples: tone(16_000, 300.0, 0.6),
            begins_ms: 0,
        }),
    );
}

#[test]
fn a_looped_replay_reports_the_origin_of_each_pass() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("loop.mp4");
    generate_short(&path);
    let (clock, health, stop) = (
        Arc::new(SystemClock::new()),
        Arc::new(SourceHealth::default()),
        Arc::new(AtomicBool::new(false)),
    );
    let (frames, out) = lane("frames", 4, WhenFull::DropOldest);
    let (audio, _audio_out) = lane("audio", 4, WhenFull::DropOldest);
    let playing = {
        let (clock, health, stop) = (clock.clone(), health.clone(), stop.clone());
        let recording = Recording::open(&path).unwrap();
        std::thread::Builder::new()
            .name("playing".into())
            .spawn(move || {
                recording.play(
                    Pace::Live {
                        clock,
                        looped: true,
                    },
                    Outputs {
                        frames: Some(frames),
                        audio: Some(audio),
                    },
                    health,
                    stop,
                )
            })
            .unwrap()
    };
    let (mut origins, mut last) = (Vec::new(), MediaTime::from_nanos(i64::MIN));
    while origins.len() < 3 {
        let Received::Item(frame) = out.recv(Some(Duration::from_secs(10))) else {
            panic!("no frame")
        };
        let origin = health.video.status().origin_ns.unwrap();
        let age_ms = clock.now().millis_since(frame.time);
        assert!(
            frame.time > last && (0.0..300.0).contains(&age_ms),
            "{age_ms} ms old"
        );
        last = frame.time;
        if origins.last() != Some(&origin) {
            origins.push(origin);
        }
    }
    stop.store(true, Ordering::Release);
    let played = playing.join().unwrap().unwrap();
    assert!(played.video_frames > 30);
    assert!(
        origins.windows(2).all(|w| w[1].millis_since(w[0]) >= 590.0),
        "{origins:?}"
    );
    assert_eq!(health.video.status().state, SourceState::Off);
}

#[test]
fn a_looped_file_that_vanishes_loses_both_tracks_until_its_return() {
    let folder = tempfile::tempdir().unwrap();
    let [path, elsewhere] = ["loop.mp4", "elsewhere.mp4"].map(|name| folder.path().join(name));
    generate_short(&path);
    let (clock, health) = (
        Arc::new(SystemClock::new()),
        Arc::new(SourceHealth::default()),
    );
    let (frames, _frames_out) = lane("frames", 4, WhenFull::DropOldest);
    let (audio, _audio_out) = lane("audio", 4, WhenFull::DropOldest);
    let uri = VideoSpec::Uri(path.to_str().unwrap().into());
    let capture = open_live(
        &uri,
        &AudioSpec::Uri,
        clock,
        Outputs {
            frames: Some(frames),
            audio: Some(audio),
        },
        health.clone(),
    )
    .unwrap();
    let both = |state: SourceState| {
        health.video.status().state == state && health.audio.status().state == state
    };
    eventually("pictures and sound", Duration::from_secs(10), || {
        both(SourceState::Delivering)
    });
    std::fs::rename(&path, &elsewhere).unwrap();
    eventually("the loss of both", Duration::from_secs(10), || {
        both(SourceState::Lost)
    });
    assert!(health.audio.status().reason.unwrap().contains("loop.mp4"));
    std::fs::rename(&elsewhere, &path).unwrap();
    eventually("the return of both", Duration::from_secs(10), || {
        both(SourceState::Delivering)
    });
    capture.stop();
}
