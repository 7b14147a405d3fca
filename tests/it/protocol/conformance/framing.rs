//! Autobahn's sections 1 to 5 and 10: messages, pings, reserved bits, opcodes, fragments.

use super::*;

/// (Message of `bytes` bytes that is echoed, its data).
fn sized(bytes: usize) -> (Vec<u8>, Vec<u8>) {
    let data = vec![b'*'; bytes - message(b"").len()];
    (message(&data), data)
}

/// The expected reactions to a message above the size limit.
fn too_large() -> Vec<Reaction> {
    vec![Refused("too_large"), Close(1009, Vec::new())]
}

/// The expected reactions to a message that is not JSON text.
fn not_text() -> Vec<Reaction> {
    vec![Refused("malformed"), Close(4400, Vec::new())]
}

#[test]
fn messages_of_every_length_class_are_echoed_or_refused() {
    let mut cases = Vec::new();
    for chop in [None, Some(997), Some(1)] {
        let mut add = |case: Case| {
            cases.push(match chop {
                Some(size) => case.chopped(size),
                None => case,
            });
        };
        add(Case::new("1.1 empty text", &[frame(TEXT, b"")], not_text()));
        for bytes in [26, 125, 126, 127, 128, 1000, 4096] {
            let (payload, data) = sized(bytes);
            add(Case::new(
                format!("1.1 text of {bytes}"),
                &[frame(TEXT, &payload)],
                vec![echo(&data)],
            ));
        }
        for bytes in [0, 125, 126, 127, 128, 1000] {
            add(Case::new(
                format!("1.2 binary of {bytes}"),
                &[frame(BINARY, &vec![0xfe; bytes])],
                not_text(),
            ));
        }
    }
    for (first, kind) in [(TEXT, "text"), (BINARY, "binary")] {
        for bytes in [16_385, 65_535, 65_536] {
            let name = format!("1 {kind} of {bytes}");
            let case = || {
                Case::new(
                    name.clone(),
                    &[frame(first, &vec![b'*'; bytes])],
                    too_large(),
                )
            };
            cases.push(case());
            cases.push(case().chopped(997));
        }
    }
    let (payload, data) = sized(16_384);
    let largest = || {
        Case::new(
            "1.1 text of 16384",
            &[frame(TEXT, &payload)],
            vec![echo(&data)],
        )
    };
    cases.push(largest());
    cases.push(largest().chopped(997));
    cases.push(Case::new(
        "10.1 fragments of 1300",
        &fragments(&payload, 1300),
        vec![echo(&data)],
    ));
    run(cases, 57);
}

#[test]
fn pings_are_answered_and_unsolicited_pongs_ignored() {
    let mut cases = Vec::new();
    let binary: &[u8] = &[0x00, 0xff, 0xfe, 0xfd, 0xfc, 0xfb, 0x00, 0xff];
    for chop in [usize::MAX, 1] {
        for payload in [b"", b"Hello, world!".as_slice(), binary, &[0xfe; 125]] {
            let name = format!("2 ping of {}", payload.len());
            let case = Case::new(name, &[frame(PING, payload)], vec![Pong(payload.into())]);
            cases.push(case.chopped(chop));
        }
        let too_long = Case::new(
            "2.5 ping of 126",
            &[frame(PING, &[0xfe; 126])],
            violation(1002).into(),
        );
        cases.push(too_long.chopped(chop));
        let payloads: Vec<Vec<u8>> = (0..10)
            .map(|n| format!("payload-{n}").into_bytes())
            .collect();
        let pings: Vec<Vec<u8>> = payloads
            .iter()
            .map(|payload| frame(PING, payload))
            .collect();
        let pongs = payloads.into_iter().map(Pong).collect();
        cases.push(Case::new("2.10 ten pings", &pings, pongs).chopped(chop));
        let unsolicited = Case::new(
            "2.9 unsolicited pong, then a ping",
            &[frame(PONG, b"unsolicited"), frame(PING, b"ping")],
            vec![Pong(b"ping".into())],
        );
        cases.push(unsolicited.chopped(chop));
    }
    for payload in [b"".as_slice(), b"unsolicited", &[0xfe; 125]] {
        cases.push(Case::new(
            "2.7 unsolicited pong",
            &[frame(PONG, payload)],
            vec![],
        ));
    }
    cases.push(Case::new(
        "2 pong of 126",
        &[frame(PONG, &[0; 126])],
        violation(1002).into(),
    ));
    run(cases, 18);
}

#[test]
fn reserved_bits_and_opcodes_close_with_1002() {
    let hello = || frame(TEXT, &message(b"hello"));
    let mut cases = Vec::new();
    let mut wrong = Vec::new();
    for bits in 1..8_u8 {
        for first in [TEXT, BINARY, CLOSE, PING, PONG] {
            wrong.push((
                format!("3 reserved bits {bits} in {first:#x}"),
                first | bits << 4,
            ));
        }
    }
    for opcode in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15] {
        wrong.push((format!("4 opcode {opcode}"), 0x80 | opcode));
        wrong.push((format!("4 opcode {opcode}, a fragment"), opcode));
    }
    for (name, first) in wrong {
        for payload in [b"".as_slice(), b"reserved opcode payload"] {
            let frames = [hello(), frame(first, payload), frame(PING, b"late")];
            // The reaction to a malformed Close is a Close frame without an `error`.
            let fails = if first & 0x0f == 8 {
                vec![Close(1002, Vec::new())]
            } else {
                violation(1002).into()
            };
            let expect = [vec![echo(b"hello")], fails].concat();
            let case = || Case::new(name.clone(), &frames, expect.clone());
            cases.push(case());
            cases.push(case().chopped(1));
        }
    }
    cases.push(Case::new(
        "5 no mask",
        &[b"\x81\x02{}".to_vec()],
        violation(1002).into(),
    ));
    cases.push(Case::new(
        "a length that is not minimal",
        &[b"\x81\xfe\x00\x02\0\0\0\0{}".to_vec()],
        violation(1002).into(),
    ));
    cases.push(Case::new(
        "a length of 64 bits",
        &[b"\x81\xff\xff\xff\xff\xff\xff\xff\xff\xff\0\0\0\0".to_vec()],
        violation(1002).into(),
    ));
    run(cases, 220);
}

#[test]
fn fragmented_messages_are_echoed_and_wrong_fragments_refused() {
    let whole = message(b"fragment1fragment2");
    let (one, two) = whole.split_at(31);
    let (begin, middle, end) = (frame(0x01, one), frame(MORE, b""), frame(LAST, two));
    let ping = frame(PING, b"ping");
    let pong = || Pong(b"ping".into());
    let echoed = || echo(b"fragment1fragment2");
    let fails = || Vec::from(violation(1002));
    let text = frame(TEXT, &message(b"text"));
    /// (Name of the case, frames to send, expected reactions).
    type Sent<'a> = (&'a str, Vec<&'a Vec<u8>>, Vec<Reaction>);
    let frames: Vec<Sent> = vec![
        ("5.3 two fragments", vec![&begin, &end], vec![echoed()]),
        (
            "5.6 a ping between",
            vec![&begin, &ping, &end],
            vec![pong(), echoed()],
        ),
        (
            "5.19 pings between empty fragments",
            vec![&begin, &middle, &ping, &middle, &ping, &end],
            vec![pong(), pong(), echoed()],
        ),
        (
            "5.9 a continuation without a beginning",
            vec![&end, &text],
            fails(),
        ),
        (
            "5.12 a fragment without a beginning",
            vec![&middle, &text],
            fails(),
        ),
        (
            "5.15 a continuation after the end",
            vec![&begin, &end, &end, &text],
            [vec![echoed()], fails()].concat(),
        ),
        ("5.18 two beginnings", vec![&begin, &begin], fails()),
        (
            "5.18 a message inside a message",
            vec![&begin, &text],
            fails(),
        ),
    ];
    let mut cases = Vec::new();
    for (name, frames, expect) in frames {
        let frames: Vec<Vec<u8>> = frames.into_iter().cloned().collect();
        let case = || Case::new(name, &frames, expect.clone());
        cases.push(case());
        cases.push(case().chopped(1));
        cases.push(case().chopped(usize::MAX));
    }
    for (first, name) in [(0x09, "ping"), (0x0a, "pong")] {
        let frames = [frame(first, b""), frame(LAST, b"")];
        cases.push(Case::new(
            format!("5.1 a fragmented {name}"),
            &frames,
            fails(),
        ));
    }
    for size in [1, 2, 5, 20] {
        cases.push(Case::new(
            format!("5 fragments of {size}"),
            &fragments(&whole, size),
            vec![echoed()],
        ));
    }
    let binary = [frame(0x02, b"fragment1"), frame(LAST, b"fragment2")];
    cases.push(Case::new("5 fragmented binary", &binary, not_text()));
    run(cases, 30);
}
