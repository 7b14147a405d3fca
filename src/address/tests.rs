use super::*;

/// (Address, redacted text).
const SHOWN: &[(&str, &str)] = &[
    // User information, query and fragment.
    ("rtsp://10.0.0.2:554/live", "rtsp://10.0.0.2:554/live"),
    (
        "rtsp://ann:xyzzy@10.0.0.2:554/live?token=plugh",
        "rtsp://***@10.0.0.2:554/live?***",
    ),
    ("rtsp://ann@10.0.0.2/live", "rtsp://***@10.0.0.2/live"),
    ("RTSP://ann:xyzzy@host", "RTSP://***@host"),
    (
        "http://host/clip.mp4?key=xyzzy#plugh",
        "http://host/clip.mp4?***",
    ),
    ("http://host/clip.mp4#xyzzy", "http://host/clip.mp4#***"),
    ("srt://:8888?passphrase=xyzzy", "srt://:8888?***"),
    // Percent-encoding, an unescaped `@`, several colons, IPv6.
    ("rtsp://a%3Ann:xy%40zzy@host/", "rtsp://***@host/"),
    ("rtsp://ann:xy@zzy@host/live", "rtsp://***@host/live"),
    (
        "rtsp://ann:xy:zzy@[fe80::1%25eth0]:554/live",
        "rtsp://***@[fe80::1%25eth0]:554/live",
    ),
    ("rtsp://[::1]/live", "rtsp://[::1]/live"),
    ("rtsp://ann:xy[zz]y@host", "rtsp://***@host"),
    // The end of the user information is unclear: only the scheme is shown.
    ("rtsp://ann:xy/zzy@host/live", "rtsp://***"),
    ("rtsp://ann:12/xyzzy@host/live", "rtsp://***"),
    ("rtsp://ann:xy?zzy@host/live", "rtsp://***"),
    ("rtsp://ann:xy#zzy@host/live", "rtsp://***"),
    ("rtsp://ann:xy\\zzy@host/live", "rtsp://***"),
    ("rtsp://ann:p@xy/zzy@host/live", "rtsp://***"),
    ("http://host/x?token=plugh@xyzzy", "http://***"),
    ("rtsp://ann:xyzzy", "rtsp://***"),
    ("rtsp://ann:xy zzy@host/live", "rtsp://***@host/live"),
    ("rtsp://ann:xy\"zzy@host/live", "rtsp://***@host/live"),
    // Named secrets in the path.
    (
        "rtsp://host:554/user=ann_password=xyzzy_channel=1.sdp",
        "rtsp://host:554/***",
    ),
    ("rtsp://host/channel=1", "rtsp://host/channel=1"),
    // Files.
    ("file:///a%20b@c.mp4?x#y", "file:///a%20b@c.mp4?x#y"),
    ("file://ann:xyzzy@host/a.mp4", "file://***@host/a.mp4"),
    ("/videos/a b@c:d@e?f=g.mp4", "/videos/a b@c:d@e?f=g.mp4"),
    ("./a:b@c.mp4", "./a:b@c.mp4"),
    ("clips/talk.mp4", "clips/talk.mp4"),
    // Missing or misspelled schemes.
    ("ann:xyzzy@host/live", "***@host/live"),
    ("ann:xy zzy@host/live", "***@host/live"),
    ("rtsp:/ann:xyzzy@host/live", "***@host/live"),
    ("rtsp//ann:xyzzy@host/live", "***@host/live"),
    ("host/live?token=xyzzy", "host/live?***"),
    // With the configuration's prefixes.
    ("uri:rtsp://ann:xyzzy@host/live", "uri:rtsp://***@host/live"),
    (
        "uri: rtsp://ann:xy zzy@host/live",
        "uri: rtsp://***@host/live",
    ),
    ("uri:ann:xyzzy@host/live", "uri:***@host/live"),
    ("uri:/a b@c:d.mp4", "uri:/a b@c:d.mp4"),
    (
        "v4l2:/dev/v4l/by-id/usb-x-index0",
        "v4l2:/dev/v4l/by-id/usb-x-index0",
    ),
    (
        "v4l2:rtsp://ann:xyzzy@host/live",
        "v4l2:rtsp://***@host/live",
    ),
    (
        "camera rtsp://ann:xy zzy@host/live",
        "camera rtsp://***@host/live",
    ),
    ("user-pw=xyzzy", "user-pw=***"),
    ("auto", "auto"),
    ("alsa:hw:CARD=C920,DEV=0", "alsa:hw:CARD=C920,DEV=0"),
    // Bin descriptions.
    ("gst:videotestsrc ! identity", "gst:videotestsrc ! identity"),
    (
        "gst:rtspsrc location=rtsp://ann:xyzzy@host/live?a=plugh latency=100 ! decodebin",
        "gst:rtspsrc location=rtsp://***@host/live?*** latency=100 ! decodebin",
    ),
    (
        "gst:rtspsrc location=\"rtsp://ann:xy zzy@host/live\" ! decodebin",
        "gst:rtspsrc location=\"rtsp://***@host/live\" ! decodebin",
    ),
    (
        "gst:rtspsrc location=rtsp://host/live user-id=xyzzy user-pw=\"xy \\\"zzy\" ! decodebin",
        "gst:rtspsrc location=rtsp://host/live user-id=*** user-pw=*** ! decodebin",
    ),
    (
        "gst:souphttpsrc proxy-id = xyzzy proxy-pw='xyzzy' cookies=xyzzy \
         extra-headers=\"h,Authorization=xyzzy\" location=http://h/x",
        "gst:souphttpsrc proxy-id =*** proxy-pw=*** cookies=*** extra-headers=*** \
         location=http://h/x",
    ),
    (
        "gst:srtsrc uri=srt://host:1 passphrase=xyzzy",
        "gst:srtsrc uri=srt://host:1 passphrase=***",
    ),
    (
        "gst:x264enc key-int-max=25 ! a",
        "gst:x264enc key-int-max=25 ! a",
    ),
    (
        "rtspsrc location=ann:xyzzy@host user-pw=xyzzy ! decodebin",
        "rtspsrc location=***@host user-pw=*** ! decodebin",
    ),
];

#[test]
fn addresses_are_displayed_without_their_secrets() {
    for (text, expected) in SHOWN {
        let address = Address::from(*text);
        assert_eq!(address.to_string(), *expected, "{text}");
        assert_eq!(format!("{address:?}"), format!("{expected:?}"), "{text}");
        assert_eq!(serde_json::to_value(&address).unwrap(), *expected, "{text}");
        assert_eq!(address.expose(), *text);
        for part in ["xyzzy", "plugh", "zzy", "ann:"] {
            assert!(!expected.contains(part), "{expected} shows {part}");
        }
    }
}

#[test]
fn library_messages_are_redacted_in_every_encoding_of_the_address() {
    for (address, password) in [
        ("rtsp://ann:xy%40zzy@host/live?token=plugh", "xy@zzy"),
        ("rtsp://ann:xy@zzy@host/live?token=plugh", "xy%40zzy"),
        ("rtsp://ann:xy/@zzy@host/live?token=plugh", "xy/@zzy"),
    ] {
        let address = Address::from(address);
        for quoted in [
            address.expose().to_owned(),
            format!("Invalid URI \"{}\".", address.expose()),
            percent_decode_str(address.expose())
                .decode_utf8_lossy()
                .into_owned(),
            format!("user ann has the password {password}"),
            "redirected to http://ann:xyzzy@other/x?token=plugh now".to_owned(),
        ] {
            let hidden = address.redact_in(&quoted);
            for secret in ["ann", "zzy", "plugh"] {
                assert!(!hidden.contains(secret), "{hidden} of {quoted}");
            }
        }
    }
    // A user name that is part of another word is not replaced.
    let address = Address::from("rtsp://video:xyzzy@host/live");
    assert_eq!(
        address.redact_in("no videos for xyzzy"),
        "no videos for ***"
    );
    let bin = Address::from("rtspsrc user-id=a user-pw=\"s3 cret\" ! x");
    assert_eq!(
        bin.redact_in("could not set \"user-pw\" to \"s3 cret\""),
        "could not set \"user-pw\" to ***"
    );
}

#[test]
fn text_without_an_address_is_unchanged() {
    for text in [
        "",
        "no pictures within 10 s of opening",
        "Could not open resource for reading and writing",
        "Internal data stream error: streaming stopped, reason not-negotiated (-4)",
        "mail to ann@host",
        "events at ws://127.0.0.1:8765/v1/events",
        "größer als 10 µs: größer",
    ] {
        assert_eq!(redact(text), text);
        assert_eq!(
            Address::from("rtsp://ann:xyzzy@host").redact_in(text),
            text.replace("ann", "***")
        );
    }
    assert_eq!(
        redact("unexpected argument 'rtsp://ann:xy zzy@host/x?y' found"),
        "unexpected argument 'rtsp://***@host/x?***' found"
    );
    assert_eq!(
        redact("'ann:xyzzy@host' is no file"),
        "'***@host' is no file"
    );
}
