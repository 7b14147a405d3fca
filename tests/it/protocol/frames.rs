//! Tests of frames in both directions: hello, events, subscriptions, resuming, errors that do not
//! close the connection.

use super::*;
use expressd::clip::{SubjectId, SubjectPhase};
use expressd::event::{Event, SpeechEvent, SpeechPhase, SubjectEvent};
use expressd::serve::ServerState;
use expressd::time::MediaTime;

#[test]
fn hello_comes_first_with_all_fields_of_the_protocol() {
    let fixture = Fixture::new(|_| {});
    fixture.publish(3);
    block_on(async {
        let mut client = fixture
            .client_with(&[("sec-websocket-protocol", "bearer.x, expressd.v1")])
            .await
            .unwrap();
        assert_eq!(client.protocol.as_deref(), Some("expressd.v1"));
        let hello = client.hello().await;
        assert_eq!(hello["protocol"], "expressd.v1");
        assert!(hello["server"].as_str().unwrap().starts_with("expressd "));
        assert!(
            hello["session"]
                .as_str()
                .unwrap()
                .parse::<uuid::Uuid>()
                .is_ok()
        );
        assert!(hello["clock"]["media_ns"].as_i64().unwrap() > 0);
        assert!(
            hello["clock"]["wall"]
                .as_str()
                .unwrap()
                .parse::<jiff::Timestamp>()
                .is_ok()
        );
        for field in [
            "name",
            "fingerprint",
            "task",
            "labels",
            "window_ms",
            "hop_ms",
        ] {
            assert!(!hello["bundle"][field].is_null(), "{field}");
        }
        assert_eq!(
            hello["subscription"],
            json!({
                "events": null,
                "subjects": null,
                "labels": null,
                "min_confidence": null,
                "max_rate_hz": null,
            })
        );
        assert_eq!(
            (&hello["oldest_seq"], &hello["next_seq"]),
            (&json!(1), &json!(4))
        );
        assert!(hello.get("seq").is_none());
        // After `hello` the client gets every event from `next_seq` on, without a gap.
        fixture.publish(50);
        assert_eq!(client.seqs(50).await, (4..54).collect::<Vec<_>>());
        assert_eq!(fixture.client().await.protocol, None);
    });
    fixture.server.stop();
}

#[test]
fn every_published_frame_has_the_fields_of_its_type() {
    let fixture = Fixture::new(|_| {});
    block_on(async {
        let mut client = fixture.client().await;
        client.hello().await;
        for event in samples() {
            fixture.ring.publish(&event);
        }
        let required: [(&str, &[&str]); 5] = [
            (
                "subject",
                &["subject", "time_ns", "phase", "box", "quality"],
            ),
            ("speech", &["phase", "start_ns", "owner"]),
            ("speech", &["phase", "start_ns", "end_ns", "owner"]),
            ("status", &["sources", "degraded", "paused", "counters"]),
            (
                "expression",
                &[
                    "subject",
                    "start_ns",
                    "end_ns",
                    "scores",
                    "top",
                    "confidence",
                    "abstain",
                    "modalities",
                    "latency_ms",
                    "deadline",
                    "degraded",
                    "skew_ms",
                    "provenance",
                ],
            ),
        ];
        for (index, (kind, fields)) in required.into_iter().enumerate() {
            let frame = client.frame().await;
            assert_eq!(
                (&frame["type"], &frame["seq"]),
                (&json!(kind), &json!(index + 1))
            );
            for field in fields {
                assert!(frame.get(field).is_some(), "{field} is not in {frame}");
            }
            match kind {
                "expression" => {
                    let sum: f64 = frame["scores"]
                        .as_object()
                        .unwrap()
                        .values()
                        .map(|score| score.as_f64().unwrap())
                        .sum();
                    assert!((sum - 1.0).abs() < 1e-3, "{sum}");
                    for field in ["capture", "queue", "encode", "emit", "total"] {
                        assert!(frame["latency_ms"][field].is_number());
                    }
                    for field in ["bundle", "provider", "precision", "config", "calibration"] {
                        assert!(frame["provenance"].get(field).is_some());
                    }
                }
                "status" => ["video", "audio"].iter().for_each(|source| {
                    assert!(
                        ["opening", "delivering", "lost", "off"]
                            .contains(&frame["sources"][source]["state"].as_str().unwrap())
                    );
                    assert!(
                        frame["sources"][source].get("reason").is_some()
                            && frame["sources"][source].get("origin_ns").is_some()
                    );
                }),
                _ => {}
            }
        }
    });
}

/// One event of each type that this version publishes.
fn samples() -> Vec<Event> {
    let subject = SubjectEvent {
        subject: SubjectId::Face(1),
        time_ns: MediaTime::from_millis(40),
        phase: SubjectPhase::Appeared,
        into: None,
        rect: [0.1, 0.2, 0.3, 0.4],
        quality: 0.9,
    };
    let start = SpeechEvent {
        phase: SpeechPhase::Start,
        start_ns: MediaTime::from_millis(100),
        end_ns: None,
        text: None,
        words: None,
        owner: None,
    };
    let end = SpeechEvent {
        phase: SpeechPhase::End,
        end_ns: Some(MediaTime::from_millis(900)),
        owner: Some(SubjectId::Face(1)),
        ..start.clone()
    };
    vec![
        Event::Subject(subject),
        Event::Speech(start),
        Event::Speech(end),
        Event::Status(BareState::default().status()),
        sample_expression(0),
    ]
}

#[test]
fn a_subscription_applies_to_events_after_its_answer() {
    let fixture = Fixture::new(|_| {});
    block_on(async {
        let mut client = fixture.client().await;
        client.hello().await;
        client
            .send(json!({
                "type": "subscribe",
                "events": ["subject", "expression"],
                "subjects": ["s1"],
                "min_confidence": 0.5,
            }))
            .await;
        let subscribed = client.frame().await;
        assert_eq!(
            subscribed,
            json!({
                "type": "subscribed",
                "subscription": {
                    "events": ["subject", "expression"],
                    "subjects": ["s1"],
                    "labels": null,
                    "min_confidence": 0.5,
                    "max_rate_hz": null,
                },
            })
        );
        // Of the first four events only the subject event matches: the end of speech is about s1
        // too, but speech is not subscribed. Then eight subjects alternate.
        for event in samples().iter().take(4) {
            fixture.ring.publish(event);
        }
        for number in 0..16 {
            fixture.ring.publish(sample_expression(number));
        }
        assert_eq!(client.seqs(3).await, [1, 5, 13]);
        // An empty list selects no event type, an absent field all of them.
        client
            .send(json!({"type": "subscribe", "events": []}))
            .await;
        assert_eq!(client.frame().await["subscription"]["events"], json!([]));
        fixture.publish(5);
        client.expect_no_event().await;
        client.send(json!({"type": "subscribe"})).await;
        assert_eq!(client.frame().await["type"], "subscribed");
        fixture.publish(1);
        assert_eq!(client.seqs(1).await, [26]);
        client
            .send(json!({"type": "subscribe", "labels": ["sad"]}))
            .await;
        client.frame().await;
        fixture.publish(3);
        client.expect_no_event().await;
    });
}

#[test]
fn resuming_sends_missed_events_in_order_and_once() {
    let fixture = Fixture::new(|_| {});
    block_on(async {
        let mut first = fixture.client().await;
        first.hello().await;
        fixture.publish(40);
        let last = *first.seqs(10).await.last().unwrap();
        drop(first);
        fixture.publish(200);
        let mut second = fixture.client().await;
        assert_eq!(second.hello().await["oldest_seq"], 1);
        fixture.publish(2);
        assert_eq!(second.seqs(2).await, [241, 242]);
        second
            .send(json!({"type": "subscribe", "resume_after": last}))
            .await;
        assert_eq!(second.frame().await["type"], "subscribed");
        fixture.publish(3);
        // The replay has more events than the limit of 64 unsent ones: a replay does not count as
        // backlog.
        assert_eq!(
            second.seqs(230 + 3).await,
            (11..=240).chain(243..=245).collect::<Vec<_>>()
        );
        // A client resumes with a filter, from a `seq` that the ring no longer holds.
        for round in 0..120 {
            fixture.publish(10);
            assert_eq!(
                second.seqs(10).await,
                (246 + 10 * round..256 + 10 * round).collect::<Vec<_>>()
            );
        }
        let mut third = fixture.client().await;
        let hello = third.hello().await;
        assert_eq!(
            (&hello["oldest_seq"], &hello["next_seq"]),
            (&json!(422), &json!(1446))
        );
        third
            .send(json!({"type": "subscribe", "subjects": ["s3"], "resume_after": 400}))
            .await;
        assert_eq!(third.frame().await["type"], "subscribed");
        let gone = third.frame().await;
        assert_eq!(
            gone,
            json!({"type": "dropped", "count": 21, "from_seq": 401, "to_seq": 421})
        );
        // `sample_expression(n)` is of subject s(n % 8 + 1).
        let expected: Vec<u64> = (422..1446).filter(|seq| seq % 8 == 2).collect();
        assert_eq!(third.seqs(expected.len()).await, expected);
        third
            .send(json!({"type": "subscribe", "resume_after": 5000}))
            .await;
        let error = third.frame().await;
        assert_eq!(
            (&error["code"], &error["in_reply_to"]),
            (&json!("bad_value"), &json!("subscribe"))
        );
    });
}

#[test]
fn a_wrong_request_gets_an_error_and_the_connection_stays_open() {
    let fixture = Fixture::new(|_| {});
    block_on(async {
        let mut client = fixture.client().await;
        client.hello().await;
        for (frame, code, in_reply_to) in [
            (
                json!({"type": "subscibe"}),
                "unknown_type",
                json!("subscibe"),
            ),
            (json!({"data": 1}), "unknown_type", Value::Null),
            (
                json!({"type": "subscribe", "event": []}),
                "unknown_field",
                json!("subscribe"),
            ),
            (
                json!({"type": "subscribe", "events": ["smile"]}),
                "bad_value",
                json!("subscribe"),
            ),
            (
                json!({"type": "subscribe", "min_confidence": 2}),
                "bad_value",
                json!("subscribe"),
            ),
            (
                json!({"type": "subscribe", "labels": ["joy"]}),
                "bad_value",
                json!("subscribe"),
            ),
            (
                json!({"type": "calibrate", "subject": "s1", "seconds": 5}),
                "not_allowed",
                json!("calibrate"),
            ),
            (
                json!({"type": "pause", "what": "capture"}),
                "not_allowed",
                json!("pause"),
            ),
        ] {
            client.send(frame).await;
            let error = client.frame().await;
            assert_eq!(
                (&error["type"], &error["code"], &error["in_reply_to"]),
                (&json!("error"), &json!(code), &in_reply_to),
                "{error}"
            );
        }
        // The client is still connected, with the same subscription.
        client
            .send(json!({"type": "ping", "data": {"a": [1, 2.5, null]}}))
            .await;
        assert_eq!(
            client.frame().await,
            json!({"type": "pong", "data": {"a": [1, 2.5, null]}})
        );
        fixture.publish(1);
        assert_eq!(client.seqs(1).await, [1]);
    });
}

#[test]
fn json_that_no_value_can_represent_is_a_bad_value() {
    let fixture = Fixture::new(|_| {});
    block_on(async {
        let mut client = fixture.client().await;
        client.hello().await;
        let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
        for data in [r#""\ud800""#, "1e400", "-1e400", r#"{"a":1,"a":2}"#, &deep] {
            client
                .raw(Message::text(format!(r#"{{"type":"ping","data":{data}}}"#)))
                .await;
            let error = client.frame().await;
            assert_eq!(
                (&error["code"], &error["in_reply_to"]),
                (&json!("bad_value"), &json!("ping")),
                "{error}"
            );
        }
        client
            .raw(Message::text(r#"{"type":"ping","data":1,"data":2}"#))
            .await;
        assert_eq!(client.frame().await["code"], "bad_value");
        client.expect_no_event().await;
    });
}

#[test]
fn a_pong_returns_its_data_verbatim() {
    let fixture = Fixture::new(|_| {});
    block_on(async {
        let mut client = fixture.client().await;
        client.hello().await;
        for data in [
            r#"{"z":1,"a":{"y":2,"b":3}}"#,
            "123456789012345678901234567890",
            "-0.10e+3",
            r#"[ 1,"\u00e9\/" ]"#,
        ] {
            client
                .raw(Message::text(format!(r#"{{"data":{data},"type":"ping"}}"#)))
                .await;
            match client.message().await {
                Message::Text(text) => {
                    assert_eq!(text.as_str(), format!(r#"{{"type":"pong","data":{data}}}"#));
                }
                other => panic!("{other:?}"),
            }
        }
    });
}

#[test]
fn a_second_replay_reports_no_loss_of_events_that_were_sent() {
    let fixture = Fixture::new(|_| {});
    block_on(async {
        fixture.publish(1000);
        let mut client = fixture.client().await;
        client.hello().await;
        let resume = json!({"type": "subscribe", "resume_after": 0});
        client.send(resume.clone()).await;
        assert_eq!(client.frame().await["type"], "subscribed");
        assert_eq!(client.seqs(1000).await, (1..=1000).collect::<Vec<_>>());
        // The next events push the first thousand out of the ring.
        for round in 0..110 {
            fixture.publish(10);
            let first = 1001 + 10 * round;
            assert_eq!(
                client.seqs(10).await,
                (first..first + 10).collect::<Vec<_>>()
            );
        }
        client.send(resume).await;
        assert_eq!(client.frame().await["type"], "subscribed");
        fixture.publish(1);
        assert_eq!(
            client.seqs(1).await,
            [2101],
            "nothing is reported as dropped"
        );
    });
}
