//! Tests of network cameras over RTSP and of GStreamer bins: late and silent tracks, slow rates,
//! wrong passwords.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use expressd::event::SourceState;

use crate::harness::eventually;
use crate::live_source::{FIRST_FRAME, LiveSource};
use crate::rtsp::{Camera, Server, free_port};

/// Address of the RTSP server's stream.
fn camera(port: u16) -> String {
    format!("rtsp://127.0.0.1:{port}/camera")
}

#[test]
fn bins_with_late_pads_deliver_frames() {
    let port = free_port();
    let _server = Server::start(port);
    let uri = camera(port);
    for (bin, has_sound) in [
        (
            format!("rtspsrc location={uri} ! rtph264depay ! h264parse ! avdec_h264"),
            true,
        ),
        (format!("rtspsrc location={uri} protocols=tcp"), true),
        (
            format!("rtspsrc location={uri} protocols=tcp ! rtph264depay"),
            true,
        ),
        (format!("uridecodebin uri={uri}"), true),
        (format!("uridecodebin uri={uri} ! videoconvert"), true),
        (
            "videotestsrc is-live=true ! x264enc tune=zerolatency ! mpegtsmux ! tsdemux".into(),
            false,
        ),
    ] {
        let audio = if has_sound { "uri" } else { "none" };
        let source = LiveSource::open(&format!("gst:{bin}"), audio);
        let took = source.wait_for_frames(1, FIRST_FRAME);
        source.wait_for_frames(20, FIRST_FRAME);
        println!(
            "gst:{}: first picture after {took:?}",
            bin.replace(&uri, "…")
        );
        assert_eq!(source.reconnects(), 0, "{bin}");
        if has_sound {
            source.wait_for_sound(SourceState::Delivering, FIRST_FRAME);
        }
    }
}

#[test]
fn a_stalled_track_is_lost_without_the_other_and_recovers() {
    let port = free_port();
    let (is_mute, is_dark) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicBool::new(false)),
    );
    let _server = Server::with(
        port,
        Camera {
            drops: vec![("pay1", is_mute.clone()), ("pay0", is_dark.clone())],
            ..Camera::default()
        },
    );
    let source = LiveSource::open(&format!("uri:{}", camera(port)), "uri");
    source.wait_for_frames(20, FIRST_FRAME);
    source.wait_for_sound(SourceState::Delivering, FIRST_FRAME);

    is_mute.store(true, Ordering::Relaxed);
    source.wait_for_sound(SourceState::Lost, Duration::from_secs(8));
    let reason = source.health.audio.status().reason.unwrap();
    assert!(reason.contains("no sound for"), "{reason}");
    let before = source.count();
    source.wait_for_frames(before + 50, Duration::from_secs(10));
    assert_eq!((source.losses(), source.reconnects()), (0, 0));
    is_mute.store(false, Ordering::Relaxed);
    source.wait_for_sound(SourceState::Delivering, Duration::from_secs(5));

    // Now the video stalls and the audio continues.
    is_dark.store(true, Ordering::Relaxed);
    eventually("the loss of the pictures", Duration::from_secs(8), || {
        source.losses() == 1
    });
    assert!(
        source.reason().contains("no pictures for"),
        "{}",
        source.reason()
    );
    let before = source.samples();
    eventually("sound goes on", Duration::from_secs(8), || {
        source.samples() > before + 16_000
    });
    assert_eq!(source.health.audio.status().state, SourceState::Delivering);
    is_dark.store(false, Ordering::Relaxed);
    let before = source.count();
    source.wait_for_frames(before + 10, Duration::from_secs(8));
    assert_eq!((source.losses(), source.reconnects()), (1, 0));
}

#[test]
fn a_source_with_audio_only_delivers() {
    let port = free_port();
    let _server = Server::with(
        port,
        Camera {
            launch: "( audiotestsrc is-live=true ! audio/x-raw,rate=8000,channels=1 ! mulawenc ! \
                rtppcmupay name=pay0 pt=0 )",
            ..Camera::default()
        },
    );
    let source = LiveSource::open(&format!("uri:{}", camera(port)), "uri");
    source.wait_for_sound(SourceState::Delivering, FIRST_FRAME);
    eventually("the lack of pictures", Duration::from_secs(15), || {
        source.losses() == 1
    });
    let before = source.samples();
    eventually("sound goes on", Duration::from_secs(8), || {
        source.samples() > before + 32_000
    });
    assert_eq!((source.losses(), source.reconnects()), (1, 0));
}

#[test]
fn a_camera_slower_than_the_shortest_stall_limit_is_never_lost() {
    let port = free_port();
    let _server = Server::with(
        port,
        Camera {
            launch: "( videotestsrc is-live=true pattern=ball ! \
                video/x-raw,width=320,height=240,framerate=1/2 ! x264enc tune=zerolatency \
                key-int-max=1 ! rtph264pay name=pay0 pt=96 )",
            ..Camera::default()
        },
    );
    let source = LiveSource::open(&format!("uri:{}", camera(port)), "none");
    source.wait_for_frames(7, Duration::from_secs(25));
    assert_eq!((source.losses(), source.reconnects()), (0, 0));
}

#[test]
fn a_camera_over_udp_delivers_frames() {
    let port = free_port();
    let _server = Server::start(port);
    let uri = camera(port).replace("rtsp://", "uri:rtspu://");
    let source = LiveSource::open(&uri, "uri");
    source.wait_for_frames(20, FIRST_FRAME);
    source.wait_for_sound(SourceState::Delivering, FIRST_FRAME);
}

#[test]
fn a_wrong_password_is_retried_late_and_an_unescaped_one_gets_the_remedy() {
    let port = free_port();
    let _server = Server::with(
        port,
        Camera {
            login: Some(("admin", "p@ss/w#1")),
            ..Camera::default()
        },
    );
    let at = |user: &str| format!("uri:rtsp://{user}127.0.0.1:{port}/camera");
    let right = LiveSource::open(&at("admin:p%40ss%2Fw%231@"), "none");
    right.wait_for_frames(5, FIRST_FRAME);
    for (user, words) in [("admin:wrongword@", "refused"), ("", "required")] {
        let source = LiveSource::open(&at(user), "none");
        eventually(words, FIRST_FRAME, || source.reason().contains(words));
        std::thread::sleep(Duration::from_secs(4));
        assert_eq!(source.reconnects(), 0, "{words}");
        assert!(!source.reason().contains("wrongword"));
    }
    let unescaped = LiveSource::open(&at("admin:p@ss/w#1@"), "none");
    eventually("the remedy", FIRST_FRAME, || {
        unescaped.reason().contains("%40")
    });
    assert!(
        !unescaped.reason().contains("p@ss"),
        "{}",
        unescaped.reason()
    );
}

#[test]
fn undecodable_audio_does_not_end_the_video() {
    let bin = "gst:videotestsrc is-live=true pattern=ball \
               audiotestsrc is-live=true ! capssetter caps=audio/x-nonsense join=false \
               replace=true";
    let source = LiveSource::open(bin, "uri");
    source.wait_for_sound(SourceState::Lost, FIRST_FRAME);
    source.wait_for_frames(60, FIRST_FRAME * 2);
    assert_eq!((source.losses(), source.reconnects()), (0, 0));
    let reason = source.health.audio.status().reason.unwrap();
    assert!(reason.contains("not installed"), "{reason}");
    // With audio.source = none the track is not decoded.
    let source = LiveSource::open(bin, "none");
    source.wait_for_frames(60, FIRST_FRAME * 2);
    assert_eq!((source.losses(), source.reconnects()), (0, 0));
}
