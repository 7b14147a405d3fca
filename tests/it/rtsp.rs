//! Tests the capture of a network camera, a real RTSP server that is stopped and restarted.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use expressd::capture::{AudioSpec, Outputs, SourceHealth, VideoSpec, open_live};
use expressd::event::SourceState;
use expressd::lane::{LaneReceiver, Received, WhenFull, lane};
use expressd::time::{Clock, SystemClock, monotonic_nanos};
use gstreamer as gst;
use gstreamer::glib;
use gstreamer::prelude::*;
use gstreamer_rtsp_server as rtsp_server;
use gstreamer_rtsp_server::prelude::*;

/// Settings of the stream that the RTSP server offers at `/camera`.
pub struct Camera {
    /// GStreamer description of the stream.
    pub launch: &'static str,
    /// (Name of a payloader, switch): the payloader sends nothing while the switch is true.
    pub drops: Vec<(&'static str, Arc<AtomicBool>)>,
    /// The required (user name, password); `None`: no login.
    pub login: Option<(&'static str, &'static str)>,
}

impl Default for Camera {
    /// A moving ball, 320 × 240 at 25 frames a second, and a 440 Hz tone.
    fn default() -> Self {
        Camera {
            launch: "( videotestsrc is-live=true pattern=ball ! \
                video/x-raw,width=320,height=240,framerate=25/1 ! x264enc tune=zerolatency \
                key-int-max=25 ! rtph264pay name=pay0 pt=96 \
                     audiotestsrc is-live=true freq=440 ! audio/x-raw,rate=8000,channels=1 ! \
                     mulawenc ! rtppcmupay name=pay1 pt=0 )",
            drops: Vec::new(),
            login: None,
        }
    }
}

impl Camera {
    /// The server's media factory for this stream.
    fn factory(self, server: &rtsp_server::RTSPServer) -> rtsp_server::RTSPMediaFactory {
        let factory = rtsp_server::RTSPMediaFactory::new();
        factory.set_launch(self.launch);
        factory.set_shared(true);
        let drops = self.drops;
        factory.connect_media_configure(move |_, media| {
            let bin = media.element().downcast::<gst::Bin>().unwrap();
            for (payloader, is_dropping) in &drops {
                let pad = bin.by_name(payloader).unwrap().static_pad("src").unwrap();
                let is_dropping = is_dropping.clone();
                let data = gst::PadProbeType::BUFFER | gst::PadProbeType::BUFFER_LIST;
                pad.add_probe(data, move |_, _| {
                    if is_dropping.load(Ordering::Relaxed) {
                        gst::PadProbeReturn::Handled
                    } else {
                        gst::PadProbeReturn::Ok
                    }
                });
            }
        });
        if let Some((user, password)) = self.login {
            let auth = rtsp_server::RTSPAuth::new();
            let token = rtsp_server::RTSPToken::builder()
                .field("media.factory.role", "user")
                .build();
            auth.add_basic(&rtsp_server::RTSPAuth::make_basic(user, password), &token);
            server.set_auth(Some(&auth));
            factory.add_role_from_structure(
                &gst::Structure::builder("user")
                    .field("media.factory.access", true)
                    .field("media.factory.construct", true)
                    .build(),
            );
        }
        factory
    }
}

/// A TCP port on which nothing listens.
pub fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// An RTSP server on its own thread. Dropping it closes its connections.
pub struct Server {
    main_loop: glib::MainLoop,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Server {
    /// Starts a server with the default stream.
    pub fn start(port: u16) -> Self {
        Server::with(port, Camera::default())
    }

    pub fn with(port: u16, camera: Camera) -> Self {
        gstreamer::init().unwrap();
        let (ready, up) = sync_channel(1);
        let serve = move || {
            let context = glib::MainContext::new();
            context
                .with_thread_default(|| {
                    let server = rtsp_server::RTSPServer::new();
                    server.set_address("127.0.0.1");
                    server.set_service(&port.to_string());
                    let factory = camera.factory(&server);
                    server
                        .mount_points()
                        .unwrap()
                        .add_factory("/camera", factory);
                    let source = server.attach(Some(&context)).unwrap();
                    let main_loop = glib::MainLoop::new(Some(&context), false);
                    ready.send(main_loop.clone()).unwrap();
                    main_loop.run();
                    server.client_filter(Some(&mut |_, _| rtsp_server::RTSPFilterResult::Remove));
                    context.find_source_by_id(&source).unwrap().destroy();
                })
                .unwrap();
        };
        let thread = std::thread::Builder::new().name("rtsp server".into());
        Server {
            thread: Some(thread.spawn(serve).unwrap()),
            main_loop: up.recv_timeout(Duration::from_secs(10)).unwrap(),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.main_loop.quit();
        self.thread.take().unwrap().join().unwrap();
    }
}

/// Waits until the video source is in `state`; returns the elapsed seconds. Panics after
/// `limit_seconds`.
fn wait_for(health: &SourceHealth, state: SourceState, limit_seconds: f64) -> f64 {
    let begun = monotonic_nanos();
    let seconds = || (monotonic_nanos() - begun) as f64 * 1e-9;
    while health.video.status().state != state {
        assert!(
            seconds() < limit_seconds,
            "not {state:?} within {limit_seconds} s but {:?}",
            health.video.status()
        );
        health.wait_for_change(health.changes(), Duration::from_millis(20));
    }
    seconds()
}

/// Starts a thread that collects all items of a lane until it ends.
fn drain<T: Send + 'static>(lane: LaneReceiver<T>) -> std::thread::JoinHandle<Vec<T>> {
    std::thread::Builder::new()
        .name("draining".into())
        .spawn(move || {
            let mut items = Vec::new();
            while let Received::Item(item) = lane.recv(None) {
                items.push(item);
            }
            items
        })
        .unwrap()
}

#[test]
fn a_stopped_network_camera_is_noticed_and_recovers() {
    let port = free_port();
    let (clock, health) = (
        Arc::new(SystemClock::new()),
        Arc::new(SourceHealth::default()),
    );
    let (frames, frames_out) = lane("frames", 4, WhenFull::DropOldest);
    let (audio, audio_out) = lane("audio", 8, WhenFull::DropOldest);
    let (frames_out, audio_out) = (drain(frames_out), drain(audio_out));

    // A camera that does not answer yet is not an error.
    let uri = VideoSpec::Uri(format!("rtsp://127.0.0.1:{port}/camera").into());
    let capture = open_live(
        &uri,
        &AudioSpec::Uri,
        clock.clone(),
        Outputs {
            frames: Some(frames),
            audio: Some(audio),
        },
        health.clone(),
    )
    .unwrap();
    wait_for(&health, SourceState::Lost, 2.0);
    assert!(health.video.status().reason.is_some());

    let server = Server::start(port);
    let found = wait_for(&health, SourceState::Delivering, 3.0);
    std::thread::sleep(Duration::from_secs(2));
    let newest = health.video.counters.newest().unwrap();
    let age_ms = clock.now().millis_since(newest);
    assert!(
        (0.0..500.0).contains(&age_ms),
        "the newest frame is {age_ms} ms old"
    );

    drop(server);
    let noticed = wait_for(&health, SourceState::Lost, 2.0);
    std::thread::sleep(Duration::from_secs(3));
    let server = Server::start(port);
    let healed = wait_for(&health, SourceState::Delivering, 3.0);
    std::thread::sleep(Duration::from_secs(1));
    let begun = monotonic_nanos();
    capture.stop();
    let stopped = (monotonic_nanos() - begun) as f64 * 1e-9;
    drop(server);
    println!(
        "rtsp: found after {found:.2} s, loss noticed after {noticed:.2} s, healed after \
         {healed:.2} s, stopped in {stopped:.2} s"
    );
    assert!(stopped < 1.0, "{stopped} s");

    let (frames, blocks) = (frames_out.join().unwrap(), audio_out.join().unwrap());
    assert!(
        frames.len() > 50 && frames.is_sorted_by(|a, b| a.time < b.time),
        "{} frames",
        frames.len()
    );
    assert!(
        frames
            .iter()
            .all(|frame| (frame.picture.width, frame.picture.height) == (320, 240))
    );
    let seconds = blocks
        .iter()
        .map(|block| block.samples.len())
        .sum::<usize>() as f64
        / 16e3;
    assert!(
        seconds > 2.0 && blocks.is_sorted_by(|a, b| a.time < b.time),
        "{seconds} s of sound"
    );
    assert!(
        health
            .video
            .counters
            .reconnects
            .load(std::sync::atomic::Ordering::Relaxed)
            >= 2
    );
}
