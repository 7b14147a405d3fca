//! Network cameras over RTSP and GStreamer bins: late and silent tracks, slow rates, wrong passwords.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use expressd::event::SourceState;

use crate::harness::eventually;
use crate::rtsp::{Camera, Server, free_port};
use crate::watching::{FIRST_PICTURE, Watching};

fn camera(port: u16) -> String {
    format!("rtsp://127.0.0.1:{port}/camera")
}

#[test]
fn bins_whose_pads_come_late_show_pictures() {
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
        let watching = Watching::open(&format!("gst:{bin}"), audio);
        let took = watching.see(1, FIRST_PICTURE);
        watching.see(20, FIRST_PICTURE);
        println!(
            "gst:{}: first picture after {took:?}",
            bin.replace(&uri, "…")
        );
        assert_eq!(watching.reconnects(), 0, "{bin}");
        if has_sound {
            watching.wait_for_sound(SourceState::Delivering, FIRST_PICTURE);
        }
    }
}

#[test]
fn a_track_that_stalls_is_lost_alone_and_comes_back() {
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
    let watching = Watching::open(&format!("uri:{}", camera(port)), "uri");
    watching.see(20, FIRST_PICTURE);
    watching.wait_for_sound(SourceState::Delivering, FIRST_PICTURE);

    is_mute.store(true, Ordering::Relaxed);
    watching.wait_for_sound(SourceState::Lost, Duration::from_secs(8));
    let reason = watching.board.audio.status().reason.unwrap();
    assert!(reason.contains("no sound for"), "{reason}");
    let before = watching.count();
    watching.see(before + 50, Duration::from_secs(10));
    assert_eq!((watching.losses(), watching.reconnects()), (0, 0));
    is_mute.store(false, Ordering::Relaxed);
    watching.wait_for_sound(SourceState::Delivering, Duration::from_secs(5));

    // The other way round.
    is_dark.store(true, Ordering::Relaxed);
    eventually("the loss of the pictures", Duration::from_secs(8), || {
        watching.losses() == 1
    });
    assert!(
        watching.reason().contains("no pictures for"),
        "{}",
        watching.reason()
    );
    let before = watching.heard();
    eventually("sound goes on", Duration::from_secs(8), || {
        watching.heard() > before + 16_000
    });
    assert_eq!(watching.board.audio.status().state, SourceState::Delivering);
    is_dark.store(false, Ordering::Relaxed);
    let before = watching.count();
    watching.see(before + 10, Duration::from_secs(8));
    assert_eq!((watching.losses(), watching.reconnects()), (1, 0));
}

#[test]
fn a_source_with_sound_alone_is_heard() {
    let port = free_port();
    let _server = Server::with(
        port,
        Camera {
            launch: "( audiotestsrc is-live=true ! audio/x-raw,rate=8000,channels=1 ! mulawenc ! rtppcmupay name=pay0 pt=0 )",
            ..Camera::default()
        },
    );
    let watching = Watching::open(&format!("uri:{}", camera(port)), "uri");
    watching.wait_for_sound(SourceState::Delivering, FIRST_PICTURE);
    eventually("the lack of pictures", Duration::from_secs(15), || {
        watching.losses() == 1
    });
    let before = watching.heard();
    eventually("sound goes on", Duration::from_secs(8), || {
        watching.heard() > before + 32_000
    });
    assert_eq!((watching.losses(), watching.reconnects()), (1, 0));
}

#[test]
fn a_camera_slower_than_the_shortest_stall_limit_is_steady() {
    let port = free_port();
    let _server = Server::with(
        port,
        Camera {
            launch: "( videotestsrc is-live=true pattern=ball ! video/x-raw,width=320,height=240,framerate=1/2 ! x264enc tune=zerolatency key-int-max=1 ! rtph264pay name=pay0 pt=96 )",
            ..Camera::default()
        },
    );
    let watching = Watching::open(&format!("uri:{}", camera(port)), "none");
    watching.see(7, Duration::from_secs(25));
    assert_eq!((watching.losses(), watching.reconnects()), (0, 0));
}

#[test]
fn a_camera_over_udp_shows_pictures() {
    let port = free_port();
    let _server = Server::start(port);
    let uri = camera(port).replace("rtsp://", "uri:rtspu://");
    let watching = Watching::open(&uri, "uri");
    watching.see(20, FIRST_PICTURE);
    watching.wait_for_sound(SourceState::Delivering, FIRST_PICTURE);
}

#[test]
fn a_wrong_password_is_not_tried_again_at_once_and_an_unescaped_one_gets_the_remedy() {
    let port = free_port();
    let _server = Server::with(
        port,
        Camera {
            login: Some(("admin", "p@ss/w#1")),
            ..Camera::default()
        },
    );
    let at = |user: &str| format!("uri:rtsp://{user}127.0.0.1:{port}/camera");
    let right = Watching::open(&at("admin:p%40ss%2Fw%231@"), "none");
    right.see(5, FIRST_PICTURE);
    for (user, words) in [("admin:wrongword@", "refused"), ("", "asked for")] {
        let watching = Watching::open(&at(user), "none");
        eventually(words, FIRST_PICTURE, || watching.reason().contains(words));
        std::thread::sleep(Duration::from_secs(4));
        assert_eq!(watching.reconnects(), 0, "{words}");
        assert!(!watching.reason().contains("wrongword"));
    }
    let unescaped = Watching::open(&at("admin:p@ss/w#1@"), "none");
    eventually("the remedy", FIRST_PICTURE, || {
        unescaped.reason().contains("%40")
    });
    assert!(
        !unescaped.reason().contains("p@ss"),
        "{}",
        unescaped.reason()
    );
}

#[test]
fn sound_that_cannot_be_decoded_does_not_end_the_pictures() {
    let bin = "gst:videotestsrc is-live=true pattern=ball \
               audiotestsrc is-live=true ! capssetter caps=audio/x-nonsense join=false replace=true";
    let watching = Watching::open(bin, "uri");
    watching.wait_for_sound(SourceState::Lost, FIRST_PICTURE);
    watching.see(60, FIRST_PICTURE * 2);
    assert_eq!((watching.losses(), watching.reconnects()), (0, 0));
    let reason = watching.board.audio.status().reason.unwrap();
    assert!(reason.contains("not installed"), "{reason}");
    // Where it is not wanted, it is not looked at.
    let watching = Watching::open(bin, "none");
    watching.see(60, FIRST_PICTURE * 2);
    assert_eq!((watching.losses(), watching.reconnects()), (0, 0));
}
