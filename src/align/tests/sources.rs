//! Tests of gaps, stalls and losses of sources.

use super::*;

#[test]
fn missing_audio_is_zero_and_counted() {
    let people = [Person::new(1, 0..9000).talking(&[0..4000])];
    let output = play(
        settings(),
        frames(&people, 4000, 25),
        sound(&[0..4000], &[2000..2500], 4000, &[160]),
        &[],
    );
    let clip = clips_of(&output, S1)
        .into_iter()
        .find(|c| c.span.end == ms(3000))
        .unwrap();
    let voice = clip.voice.as_ref().unwrap();
    assert_eq!(voice.missing_nanos, 500 * MS);
    assert_eq!(
        (
            voice.samples[15_999],
            voice.samples[16_000],
            voice.samples[23_999],
            voice.samples[24_000]
        ),
        (31_999.0, 0.0, 0.0, 40_000.0)
    );
    assert!((voice.speech - 0.75).abs() < 0.02);
    assert_eq!(clip.skew_nanos, Some(3000 * MS - 2960 * MS));
}

#[test]
fn a_stalled_source_is_waited_for_and_a_lost_one_is_not() {
    let live = AlignSettings {
        lateness_nanos: Some(60 * MS),
        ..settings()
    };
    let mut aligner = Aligner::new(live);
    let frames = frames(&[Person::new(1, 0..99_000)], 4000, 25);
    let mut ends = Vec::new();
    for frame in frames {
        let now = frame.time;
        // The audio source stalls; the caller pops at each deadline.
        while let Some(deadline) = aligner.next_deadline().filter(|d| *d < now) {
            while let Some(output) = aligner.pop(deadline) {
                if let Aligned::Clip(clip) = output {
                    ends.push((clip.span.end, deadline));
                }
            }
        }
        aligner.push(AlignInput::Faces(frame));
        assert!(aligner.held() < 600, "{}", aligner.held());
    }
    assert_eq!(ends.len(), 19, "from 200 to 3800 ms");
    assert!(ends.iter().all(|(end, at)| *at == end.plus_nanos(60 * MS)));
    aligner.push(AlignInput::AudioLost);
    assert!(aligner.pop(ms(3961)).is_none());
    let mut next = FramedFaces {
        time: ms(4000),
        picture_size: [1, 1],
        faces: Vec::new(),
        changes: Vec::new(),
    };
    aligner.push(AlignInput::Faces(next.clone()));
    assert!(
        matches!(aligner.pop(ms(4001)), Some(Aligned::Clip(c)) if c.span.end == ms(4000)),
        "a lost audio source is not waited for"
    );
    // The video source is lost too: its data is flushed, no subject is present, nothing is due.
    next.time = ms(4160);
    aligner.push(AlignInput::Faces(next));
    aligner.push(AlignInput::FacesLost);
    while aligner.pop(ms(4161)).is_some() {}
    assert_eq!(aligner.next_deadline(), None);
}

#[test]
fn after_a_stalled_camera_the_voice_is_off_camera() {
    let live = AlignSettings {
        lateness_nanos: Some(60 * MS),
        ..settings()
    };
    let mut aligner = Aligner::new(live);
    let mut output = Vec::new();
    let mut frames: VecDeque<_> = frames(&[Person::new(1, 0..99_000)], 1000, 25).into();
    for block in sound(&[0..20_000], &[], 20_000, &[160]) {
        let now = block.block.span().end;
        while frames.front().is_some_and(|f| f.time <= now) {
            aligner.push(AlignInput::Faces(frames.pop_front().unwrap()));
        }
        aligner.push(AlignInput::VadBlock(block));
        output.extend(std::iter::from_fn(|| aligner.pop(now)));
        assert!(aligner.held() < 1200, "{}", aligner.held());
    }
    let voice = clips_of(&output, SubjectId::Voice);
    assert!(
        (3000..3400).contains(&(voice[0].span.end.nanos() / MS)),
        "{:?}",
        voice[0].span
    );
    assert_eq!(voice.last().unwrap().face_absence, Some(Absence::NoSource));
    assert_eq!(voice.last().unwrap().span.end, ms(19_800));
}

#[test]
fn stamps_that_go_back_are_refused_and_distant_ones_do_not_hang() {
    let mut aligner = Aligner::new(AlignSettings {
        audio: false,
        ..settings()
    });
    let mut frames = frames(&[Person::new(1, 0..99_000)], 1000, 25);
    let mut distant = frames.pop().unwrap();
    let mut back = frames[3].clone();
    frames
        .into_iter()
        .for_each(|f| aligner.push(AlignInput::Faces(f)));
    back.time = ms(100);
    aligner.push(AlignInput::Faces(back));
    assert_eq!(aligner.refused(), 1);
    distant.time = MediaTime::from_nanos(i64::MAX / 2);
    aligner.push(AlignInput::Faces(distant));
    aligner.push(AlignInput::FacesEnded);
    let output: Vec<_> = std::iter::from_fn(|| aligner.pop(MediaTime::ZERO)).collect();
    assert!(clips(&output).len() < 30, "{}", clips(&output).len());
}

#[test]
fn the_next_input_is_of_the_source_with_the_older_watermark() {
    let mut aligner = Aligner::new(settings());
    let (mut video, mut audio) = (
        VecDeque::from(frames(&[Person::new(1, 0..99_000)], 60_000, 25)),
        VecDeque::from(sound(&[0..60_000], &[], 60_000, &[1024])),
    );
    loop {
        match aligner.next_input() {
            NextInput::Faces => aligner.push(
                video
                    .pop_front()
                    .map_or(AlignInput::FacesEnded, AlignInput::Faces),
            ),
            NextInput::VadBlock => aligner.push(
                audio
                    .pop_front()
                    .map_or(AlignInput::AudioEnded, AlignInput::VadBlock),
            ),
            NextInput::Ended => break,
        }
        while aligner.pop(MediaTime::ZERO).is_some() {}
        assert!(aligner.held() < 1300, "{}", aligner.held());
    }
}
