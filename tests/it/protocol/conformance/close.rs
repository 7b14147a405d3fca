//! Autobahn's section 7: the closing handshake.

use super::*;

/// Payload of a Close frame: code and reason.
fn close_payload(code: u16, reason: &[u8]) -> Vec<u8> {
    [&code.to_be_bytes(), reason].concat()
}

/// The expected reaction to a malformed Close: a Close frame with this code, without an `error`
/// frame.
fn close_only(code: u16) -> Vec<Reaction> {
    vec![Close(code, Vec::new())]
}

#[test]
fn frames_after_a_close_are_not_answered() {
    let closing = frame(CLOSE, &close_payload(1000, b""));
    let hello = frame(TEXT, &message(b"hello"));
    let begin = frame(0x01, b"fragment");
    let end = frame(LAST, b"fragment");
    let ping = frame(PING, b"ping");
    let large = frame(TEXT, &[b'*'; 16 << 10]);
    let closed = close_only(1000);
    let cases = [
        (
            "7.1.1",
            vec![&hello, &closing],
            [vec![echo(b"hello")], closed.clone()].concat(),
        ),
        ("7.1.2 two closes", vec![&closing, &closing], closed.clone()),
        ("7.1.3 a ping after", vec![&closing, &ping], closed.clone()),
        ("7.1.4 a text after", vec![&closing, &hello], closed.clone()),
        (
            "7.1.5 the end after",
            vec![&begin, &closing, &end],
            closed.clone(),
        ),
        ("7.1.6 much before", vec![&large, &closing, &ping], {
            vec![Refused("malformed"), Close(4400, Vec::new())]
        }),
    ];
    let cases = cases.into_iter().flat_map(|(name, frames, expect)| {
        let frames: Vec<Vec<u8>> = frames.into_iter().cloned().collect();
        [usize::MAX, 1].map(|chop| Case::new(name, &frames, expect.clone()).chopped(chop))
    });
    run(cases.collect(), 12);
}

#[test]
fn close_payloads_are_echoed_or_refused_by_rfc_6455() {
    let close = |name: &str, payload: &[u8], expect: Vec<Reaction>| {
        // A ping before and a ping after the Close: the first is answered, the second is not.
        let frames = [
            frame(PING, b"before"),
            frame(CLOSE, payload),
            frame(PING, b"after"),
        ];
        let expect = [vec![Pong(b"before".into())], expect].concat();
        [usize::MAX, 1].map(|chop| Case::new(name, &frames, expect.clone()).chopped(chop))
    };
    let mut cases = Vec::new();
    cases.extend(close("7.3.1 empty", b"", vec![Close(0, Vec::new())]));
    cases.extend(close("7.3.2 one byte", b"a", close_only(1002)));
    cases.extend(close(
        "7.3.3 a code",
        &close_payload(1000, b""),
        close_only(1000),
    ));
    for (name, reason) in [
        ("7.3.4 a reason", b"Hello World!".to_vec()),
        ("7.3.5 the longest reason", vec![b'*'; 123]),
        ("7.3.4 a reason in UTF-8", "µ@ßöäüàá".into()),
    ] {
        cases.extend(close(
            name,
            &close_payload(1000, &reason),
            vec![Close(1000, reason)],
        ));
    }
    cases.extend(close(
        "7.3.6 too long",
        &close_payload(1000, &[b'*'; 124]),
        close_only(1002),
    ));
    let fragmented = [frame(0x08, b""), frame(LAST, b"")];
    cases.push(Case::new(
        "a fragmented close",
        &fragmented,
        close_only(1002),
    ));
    let wrong = b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80\x65";
    cases.extend(close(
        "7.5.1 a reason that is not UTF-8",
        &close_payload(1000, wrong),
        close_only(1007),
    ));
    cases.extend(close(
        "7.5.1 a reason cut in a character",
        &close_payload(1000, b"\xce"),
        close_only(1007),
    ));
    for code in [
        1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 3000, 3999, 4000, 4999,
    ] {
        let name = format!("7.7 code {code}");
        cases.extend(close(
            &name,
            &close_payload(code, b"why"),
            vec![Close(code, b"why".into())],
        ));
    }
    for code in [
        0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535,
    ] {
        for reason in [b"".as_slice(), b"why"] {
            let name = format!("7.9 code {code}");
            cases.extend(close(&name, &close_payload(code, reason), close_only(1002)));
        }
    }
    run(cases, 98);
}
