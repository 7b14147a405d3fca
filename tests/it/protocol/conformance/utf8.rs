//! Autobahn's section 6: UTF-8 in one frame, over fragments, and octet by octet. The sequences are
//! those of Markus Kuhn's decoder test.

use super::*;

/// Decodes hexadecimal digits.
fn bytes(text: &str) -> Vec<u8> {
    (0..text.len() / 2)
        .map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).expect("hexadecimal"))
        .collect()
}

/// Cases that send the payload in different cases_of: in one write, in writes of one octet, in two
/// fragments, and in fragments of one octet.
fn cases_of(name: &str, payload: &[u8], expect: &[Reaction]) -> Vec<Case> {
    let case = |frames: &[Vec<u8>]| Case::new(name, frames, expect.to_vec());
    let mut cases = vec![
        case(&[frame(TEXT, payload)]),
        case(&[frame(TEXT, payload)]).chopped(1),
        case(&fragments(payload, payload.len() / 2 + 1)),
    ];
    // More fragments would exceed the limit of frames a second.
    if payload.len() < 90 {
        cases.push(case(&fragments(payload, 1)));
    }
    cases
}

#[test]
fn valid_utf8_is_echoed() {
    let mut valid: Vec<String> = [
        "Hello-µ@ßöäüàá-UTF-8!!",
        "hello$world",
        "hello¢world",
        "hello€world",
        "hello\u{24b62}world",
        "κόσμε",
        "\u{7f}",
        "\u{80}",
        "\u{7ff}",
        "\u{800}",
        "\u{d7ff}",
        "\u{e000}",
        "\u{ffff}",
        "\u{10000}",
        "\u{10ffff}",
    ]
    .map(str::to_owned)
    .into();
    // The Unicode block Specials, and the non-characters at the end of each plane.
    for code in (0xfff9..=0xffff).chain((1..=16).flat_map(|plane| {
        let last = plane << 16;
        [last | 0xfffe, last | 0xffff]
    })) {
        valid.push(char::from_u32(code).expect("a scalar value").into());
    }
    let cases: Vec<Case> = valid
        .iter()
        .flat_map(|text| {
            let name = format!("6 {text:?}");
            let expect = [echo(text.as_bytes())];
            cases_of(&name, &message(text.as_bytes()), &expect)
        })
        .collect();
    run(cases, 200);
}

#[test]
fn text_that_is_not_utf8_closes_with_1007() {
    let mut invalid: Vec<Vec<u8>> = [
        // Prefixes of "κόσμε" that end inside a character.
        "ce",
        "cebae1",
        "cebae1bd",
        "cebae1bdb9cf",
        "cebae1bdb9cf83ce",
        "cebae1bdb9cf83cebcce",
        // Sequences of 5 and 6 bytes, and beyond U+10FFFF.
        "f888808080",
        "fc8480808080",
        "f7bfbfbf",
        "fbbfbfbfbf",
        "fdbfbfbfbfbf",
        "f4908080",
        // Unexpected continuations.
        "80",
        "bf",
        "80bf",
        "80bf80",
        "80bf80bf",
        "80bf80bf80",
        "80bf80bf80bf",
        // The last continuation is missing.
        "c0",
        "e080",
        "f08080",
        "f8808080",
        "fc80808080",
        "df",
        "efbf",
        "f7bfbf",
        "fbbfbfbf",
        "fdbfbfbfbf",
        "c0e080f08080f8808080fc80808080dfefbff7bfbffbbfbfbffdbfbfbfbf",
        // Bytes that never occur in UTF-8.
        "fe",
        "ff",
        "fefeffff",
        // Overlong encodings.
        "c0af",
        "e080af",
        "f08080af",
        "f8808080af",
        "fc80808080af",
        "c1bf",
        "e09fbf",
        "f08fbfbf",
        "f887bfbfbf",
        "fc83bfbfbfbf",
        "c080",
        "e08080",
        "f0808080",
        "f880808080",
        "fc8080808080",
        // Surrogates, single and paired.
        "eda080",
        "edadbf",
        "edae80",
        "edafbf",
        "edb080",
        "edbe80",
        "edbfbf",
        "eda080edb080",
        "eda080edbfbf",
        "edadbfedb080",
        "edadbfedbfbf",
        "edae80edb080",
        "edae80edbfbf",
        "edafbfedb080",
        "edafbfedbfbf",
        // "κόσμε", a surrogate, "edited".
        "cebae1bdb9cf83cebcceb5eda080656469746564",
    ]
    .map(bytes)
    .into();
    invalid.push((0x80..=0xbf).collect());
    for starts in [
        0xc0..=0xdf,
        0xe0..=0xef,
        0xf0..=0xf7,
        0xf8..=0xfb,
        0xfc..=0xfd_u8,
    ] {
        invalid.push(starts.flat_map(|start| [start, b' ']).collect());
    }
    let cases: Vec<Case> = invalid
        .iter()
        .flat_map(|sequence| {
            let name = format!("6 {sequence:x?}");
            let expect = violation(1007);
            // The sequence is sent alone and inside a JSON message.
            [
                cases_of(&name, sequence, &expect),
                cases_of(&name, &message(sequence), &expect),
            ]
            .concat()
        })
        .collect();
    run(cases, 500);
}
