//! Tests that no spoken word is in the log.

use futures_util::SinkExt;
use serde_json::json;
use tokio_tungstenite::tungstenite::Message;

use super::LoggedDaemon;
use crate::harness::demo;
use crate::transcripts::{block_on, send, wait_for};

/// Words that no log message contains, some of rare letters and some of common ones.
const SENTENCE: &str = "ღვინო zyzzyva ꙮʬ marmalade";

#[test]
fn no_spoken_word_is_logged_at_any_level_and_target() {
    let recording = demo();
    let args = ["--replay", recording.to_str().unwrap(), "--loop"];
    let everything =
        "trace,tokenizers=trace,tungstenite=trace,tokio_tungstenite=trace,hyper=trace,log=trace";
    for rust_log in [None, Some("trace"), Some(everything)] {
        let daemon = LoggedDaemon::start(&args, rust_log);
        block_on(async {
            let connect = || async {
                let address = format!("ws://{}/v1/events", daemon.address);
                tokio_tungstenite::connect_async(address)
                    .await
                    .expect("the daemon accepts")
                    .0
            };
            let mut socket = connect().await;
            let face = wait_for(&mut socket, "a face", |f| {
                f["type"] == "expression"
                    && f["subject"] != "voice"
                    && f["end_ns"].as_i64().is_some_and(|end| end > 1_000_000_000)
            })
            .await;
            let end = face["end_ns"].as_i64().unwrap();
            for is_final in [false, true] {
                let frame = json!({"type": "transcript", "text": SENTENCE, "final": is_final,
                    "start_ns": end - 900_000_000, "end_ns": end, "subject": face["subject"]});
                send(&mut socket, frame).await;
                let reply = wait_for(&mut socket, "the words", |f| {
                    f["type"] == "speech" && f.get("text").is_some() || f["type"] == "error"
                })
                .await;
                assert_eq!(reply["text"], SENTENCE, "{reply}");
            }
            wait_for(&mut socket, "words as evidence", |f| {
                f["modalities"]["text"]["used"] == true
            })
            .await;
            // The server's error messages name the fault and may be logged, but must not contain
            // the words.
            for wrong in [
                json!({"type": "transcript", "text": SENTENCE, "start_ns": SENTENCE}),
                json!({"type": SENTENCE}),
                json!({"type": "subscribe", "events": [SENTENCE]}),
                json!({"type": "transcript", SENTENCE: 1}),
            ] {
                send(&mut socket, wrong).await;
            }
            let broken = format!("{{\"type\":\"transcript\",\"text\":{SENTENCE}");
            for message in [
                Message::text(broken),
                Message::binary(SENTENCE.as_bytes().to_vec()),
            ] {
                let mut socket = connect().await;
                socket.send(message).await.unwrap();
                wait_for(&mut socket, "the refusal", |f| f["type"] == "error").await;
            }
        });
        let log = daemon.stop();
        assert!(
            log.contains("DEBUG"),
            "this is the log at the loudest: {log}"
        );
        for word in SENTENCE.split(' ') {
            assert!(!log.contains(word), "{word} with {rust_log:?}: {log}");
        }
        // Single letters are searched for, too. Rare letters must not appear, literally or escaped;
        // common letters must not appear one by one as separate fields.
        for letter in SENTENCE.chars().filter(|c| !c.is_ascii()) {
            let escaped = format!("{:x}", u32::from(letter));
            let forms = [
                letter.to_string(),
                format!("\\u{{{escaped}}}"),
                format!("\\u{escaped}"),
            ];
            assert!(
                !forms.iter().any(|form| log.contains(form)),
                "{letter} with {rust_log:?}: {log}"
            );
        }
        let characters: Vec<char> = log.chars().collect();
        let fields = characters
            .windows(3)
            .filter(|w| w[0] == w[2] && "'\"".contains(w[0]));
        let spelled: String = fields.map(|w| w[1]).collect();
        assert!(!spelled.contains("zyz"), "{spelled}");
        assert_eq!(
            log.contains("RUST_LOG names"),
            rust_log == Some(everything),
            "{log}"
        );
    }
}
