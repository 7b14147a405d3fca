//! Tests of transcripts, from clients and from the daemon's own transcriber, over a real socket.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use crate::harness::{Daemon, demo, expressd, of_type, replay, stderr};
use expressd::speech::PocketSphinx;
use expressd::testing::did_not_run;

/// Time limit for an expected frame.
const PATIENCE: Duration = Duration::from_secs(60);
/// Words that occur in no other text, so that they can be searched for in the log.
const SECRET: &str = "zyzzyva marmalade";

pub type Socket =
    tokio_tungstenite::WebSocketStream<tokio_tungstenite::MaybeTlsStream<tokio::net::TcpStream>>;

/// Reads frames until `fits` returns true for one, and returns that frame. Panics with the text
/// `what` after [`PATIENCE`].
pub async fn wait_for(
    socket: &mut Socket,
    what: &str,
    mut fits: impl FnMut(&Value) -> bool,
) -> Value {
    let until = tokio::time::Instant::now() + PATIENCE;
    loop {
        match tokio::time::timeout_at(until, socket.next()).await {
            Ok(Some(Ok(Message::Text(text)))) => {
                let frame: Value = serde_json::from_str(&text).expect("frames are JSON");
                if fits(&frame) {
                    return frame;
                }
            }
            Ok(Some(Ok(_))) => {}
            other => panic!("waiting for {what}: {other:?}"),
        }
    }
}

pub async fn send(socket: &mut Socket, frame: Value) {
    socket
        .send(Message::text(frame.to_string()))
        .await
        .expect("sent");
}

/// A `transcript` message of a client with the words [`SECRET`]; times are in nanoseconds.
fn transcript(start: i64, end: i64, is_final: bool) -> Value {
    json!({
        "type": "transcript",
        "text": SECRET,
        "start_ns": start,
        "end_ns": end,
        "final": is_final,
    })
}

pub fn block_on(future: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(future);
}

fn has_pocketsphinx() -> bool {
    let found = PocketSphinx::open().is_ok();
    if !found {
        did_not_run("PocketSphinx is not there (make setup-words)");
    }
    found
}

#[test]
fn client_transcripts_become_events_and_evidence_and_are_not_logged() {
    let mut daemon = Daemon::start(&[
        "--replay",
        demo().to_str().unwrap(),
        "--loop",
        "--set",
        "log.level=trace",
    ]);
    let address = daemon.address.clone();
    block_on(async {
        let (mut socket, _) = tokio_tungstenite::connect_async(format!("ws://{address}/v1/events"))
            .await
            .expect("the daemon accepts");
        let is_of_a_face = |f: &Value| f["type"] == "expression" && f["subject"] != "voice";
        // Waits until a time at the start of the recording has left the window.
        let now = wait_for(&mut socket, "a face", |f| {
            is_of_a_face(f) && f["end_ns"].as_i64().is_some_and(|end| end > 5_000_000_000)
        })
        .await;
        assert_eq!(
            now["modalities"]["text"],
            json!({"used": false, "reason": "no_transcript"}),
            "{now}"
        );
        let (subject, end) = (now["subject"].clone(), now["end_ns"].as_i64().unwrap());
        let start = end - 900_000_000;

        // The first transcript, a partial, names no subject: lips and voice attribute it to the
        // only face. The second, a final, names the subject and supersedes the partial.
        for is_final in [false, true] {
            let mut frame = transcript(start, end, is_final);
            if is_final {
                frame["subject"] = subject.clone();
            }
            send(&mut socket, frame).await;
            let speech = wait_for(&mut socket, "the words", |f| {
                f["type"] == "speech" && f.get("text").is_some() || f["type"] == "error"
            })
            .await;
            assert_eq!(
                speech["phase"],
                if is_final { "final" } else { "partial" },
                "{speech}"
            );
            assert_eq!(
                (&speech["text"], &speech["owner"]),
                (&json!(SECRET), &subject),
                "{speech}"
            );
            assert_eq!(
                (&speech["start_ns"], &speech["end_ns"]),
                (&json!(start), &json!(end))
            );
            assert_eq!(speech["words"][1]["text"], "marmalade");
            assert_eq!(
                (
                    &speech["words"][0]["start_ns"],
                    &speech["words"][1]["end_ns"]
                ),
                (&json!(start), &json!(end))
            );
            assert!(speech["seq"].as_u64().is_some());
        }
        // The default bundle has a text encoder, so the words become evidence.
        let used = wait_for(&mut socket, "words as evidence", |f| {
            is_of_a_face(f) && f["modalities"]["text"]["used"] == true
        })
        .await;
        assert!(
            used["modalities"]["text"]["age_ms"]
                .as_f64()
                .is_some_and(|age| age > 0.0),
            "{used}"
        );

        for (frame, code) in [
            (transcript(start, end, true), "bad_value"),
            (transcript(0, 1_000_000, true), "stale"),
            (
                transcript(start + 60_000_000_000, end + 60_000_000_000, true),
                "stale",
            ),
            (transcript(end, start, true), "bad_value"),
            (
                json!({
                    "type": "transcript",
                    "text": SECRET,
                    "start_ns": end,
                    "end_ns": end + 1_000_000,
                    "final": true,
                    "subject": "s999",
                }),
                "bad_value",
            ),
            (
                json!({
                    "type": "transcript",
                    "text": SECRET,
                    "start_ns": end,
                    "end_ns": end + 1_000_000,
                    "final": true,
                    "speaker": SECRET,
                }),
                "unknown_field",
            ),
            (json!({"type": "transcript", "text": SECRET}), "bad_value"),
        ] {
            send(&mut socket, frame.clone()).await;
            let error = wait_for(&mut socket, "an error", |f| f["type"] == "error").await;
            assert_eq!(
                (&error["code"], &error["in_reply_to"]),
                (&json!(code), &json!("transcript")),
                "{frame}: {error}"
            );
            assert!(
                !error["message"].as_str().unwrap().contains("zyzzyva"),
                "{error}"
            );
        }
        // A malformed frame closes the connection with the reason, which is logged.
        socket
            .send(Message::text(format!(
                "{{\"type\":\"transcript\",\"text\":{SECRET}"
            )))
            .await
            .unwrap();
        wait_for(&mut socket, "the refusal", |f| f["code"] == "malformed").await;

        // After a while the transcript has left the window.
        let (mut second, _) = tokio_tungstenite::connect_async(format!("ws://{address}/v1/events"))
            .await
            .expect("the daemon accepts");
        wait_for(&mut second, "the end of the words", |f| {
            is_of_a_face(f) && f["modalities"]["text"]["reason"] == "no_transcript"
        })
        .await;
    });
    let log = daemon.lines_so_far();
    assert!(
        log.iter().any(|line| line.contains("DEBUG")),
        "this is the log at the loudest: {log:#?}"
    );
    assert!(log.len() < 9000, "nothing of it was dropped");
    assert!(
        !log.iter()
            .any(|line| line.contains("zyzzyva") || line.contains("marmalade")),
        "{log:#?}"
    );
}

#[test]
fn transcripts_of_a_replay_are_deterministic() {
    if !has_pocketsphinx() {
        return;
    }
    check_transcripts_of_a_replay("pocketsphinx", true);
}

/// Replays the demonstration with a transcriber, and checks words and scores. `with_confidence`:
/// whether the transcriber gives each word a confidence.
fn check_transcripts_of_a_replay(transcriber: &str, with_confidence: bool) {
    let (code, without, _) = replay(&demo(), &[]);
    assert_eq!(code, Some(0));
    assert!(
        of_type(&without, "speech").all(|e| e.get("text").is_none() && e.get("words").is_none()),
        "words only where they are switched on"
    );
    let set = format!("speech.transcriber={transcriber}");
    let set = ["--set", &*set];
    let (code, events, errors) = replay(&demo(), &set);
    assert_eq!(code, Some(0), "{errors}");
    assert_eq!(events, replay(&demo(), &set).1);
    let finals: Vec<_> = of_type(&events, "speech")
        .filter(|e| e["phase"] == "final")
        .collect();
    let words: Vec<&Value> = finals
        .iter()
        .flat_map(|e| e["words"].as_array().unwrap())
        .collect();
    assert!(words.len() >= 5, "{finals:#?}");
    let turns: Vec<_> = of_type(&events, "speech")
        .filter(|e| e["phase"] == "end")
        .collect();
    for word in words {
        let (start, end) = (
            word["start_ns"].as_i64().unwrap(),
            word["end_ns"].as_i64().unwrap(),
        );
        let confidence = word["confidence"].as_f64();
        assert!(
            start < end
                && confidence.is_some() == with_confidence
                && confidence.is_none_or(|c| (0.0..=1.0).contains(&c)),
            "{word}"
        );
        let inside = |turn: &&Value| {
            turn["start_ns"].as_i64().unwrap() - 300_000_000 <= start
                && end <= turn["end_ns"].as_i64().unwrap() + 300_000_000
        };
        assert!(turns.iter().any(inside), "{word} is in no turn");
    }
    assert!(
        of_type(&events, "expression").any(|e| e["modalities"]["text"]["used"] == true),
        "words are evidence"
    );
    // Transcripts affect only events with text: subjects and times are the same as without a
    // transcriber, and so are the scores of events without text.
    let of_faces = |events: &[Value]| {
        of_type(events, "expression")
            .filter(|e| e["subject"] != "voice")
            .cloned()
            .collect::<Vec<_>>()
    };
    let (with, without) = (of_faces(&events), of_faces(&without));
    assert_eq!(with.len(), without.len());
    let mut changed = 0;
    for (with, without) in with.iter().zip(&without) {
        assert_eq!(
            (&with["subject"], &with["end_ns"]),
            (&without["subject"], &without["end_ns"])
        );
        if with["modalities"]["text"]["used"] == true {
            changed += usize::from(with["scores"] != without["scores"]);
        } else {
            assert_eq!(with["scores"], without["scores"], "{with}");
        }
    }
    assert!(changed > 0, "words change nothing");
}

#[cfg(feature = "sherpa")]
#[test]
fn a_sherpa_model_transcribes_and_disturbs_no_other_graph() {
    check_transcripts_of_a_replay("sherpa:tests/sherpa/zipformer2-ctc", false);
    check_transcripts_of_a_replay("sherpa:tests/sherpa/zipformer2-transducer", true);
    let doctor = expressd(&[
        "doctor",
        "--set",
        "speech.transcriber=sherpa:tests/sherpa/nemo-ctc",
    ]);
    let printed = String::from_utf8_lossy(&doctor.stdout).into_owned();
    assert!(
        printed
            .lines()
            .any(|line| line.starts_with("ok       transcriber: sherpa:")
                && line.ends_with("and its model can be opened")),
        "{printed}"
    );
    let (code, _, errors) = replay(
        &demo(),
        &["--set", "speech.transcriber=sherpa:nowhere/at/all"],
    );
    assert_eq!(code, Some(3), "{errors}");
    assert!(
        errors.contains("nowhere/at/all") && errors.contains("there is no such folder"),
        "{errors}"
    );
}

#[cfg(not(feature = "sherpa"))]
#[test]
fn without_sherpa_the_error_names_the_command_to_build_it() {
    let (code, _, errors) = replay(
        &demo(),
        &[
            "--set",
            "speech.transcriber=sherpa:tests/sherpa/zipformer2-ctc",
        ],
    );
    assert_eq!(code, Some(3), "{errors}");
    assert!(errors.contains("make build FEATURES=sherpa"), "{errors}");
}

#[test]
fn a_transcribing_daemon_publishes_words_and_refuses_client_transcripts() {
    if !has_pocketsphinx() {
        return;
    }
    let daemon = Daemon::start(&[
        "--replay",
        demo().to_str().unwrap(),
        "--loop",
        "--set",
        "speech.transcriber=pocketsphinx",
    ]);
    block_on(async {
        let (mut socket, _) =
            tokio_tungstenite::connect_async(format!("ws://{}/v1/events", daemon.address))
                .await
                .expect("the daemon accepts");
        let speech = wait_for(&mut socket, "words", |f| {
            f["phase"] == "final" && f["words"].as_array().is_some_and(|words| !words.is_empty())
        })
        .await;
        let end = speech["end_ns"].as_i64().unwrap();
        send(&mut socket, transcript(end, end + 100_000_000, true)).await;
        let error = wait_for(&mut socket, "the refusal", |f| f["type"] == "error").await;
        assert_eq!(
            (&error["code"], &error["in_reply_to"]),
            (&json!("not_allowed"), &json!("transcript")),
            "{error}"
        );
        assert!(
            error["message"]
                .as_str()
                .unwrap()
                .contains("[speech] transcriber"),
            "{error}"
        );
    });
}

#[test]
fn a_missing_transcriber_is_named_with_its_set_up_command() {
    let without = |args: &[&str]| {
        let mut command = crate::harness::command(args);
        command.env("EXPRESSD_POCKETSPHINX", "nowhere/at/all");
        command.output().expect("the daemon's binary runs")
    };
    let output = without(&[
        "replay",
        demo().to_str().unwrap(),
        "--jsonl",
        "-",
        "--set",
        "speech.transcriber=pocketsphinx",
    ]);
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
    assert!(
        stderr(&output).contains("make setup-words") && stderr(&output).contains("nowhere/at/all"),
        "{}",
        stderr(&output)
    );
    let doctor = without(&["doctor", "--set", "speech.transcriber=pocketsphinx"]);
    let printed = String::from_utf8_lossy(&doctor.stdout).into_owned();
    assert!(
        printed
            .lines()
            .any(|line| line.starts_with("failure  transcriber: ")
                && line.contains("make setup-words")),
        "{printed}"
    );
    let doctor = without(&["doctor"]);
    assert!(String::from_utf8_lossy(&doctor.stdout).contains("ok       transcriber: none"));
    let check = expressd(&["check", "--set", "speech.transcriber=vosk"]);
    assert_eq!(check.status.code(), Some(2));
    assert!(
        stderr(&check).contains("\"none\", \"pocketsphinx\""),
        "{}",
        stderr(&check)
    );
}
