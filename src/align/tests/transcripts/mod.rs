//! Tests of transcripts: their speakers ([`owners`]) and the clips that contain them ([`windows`]).

use super::*;
use crate::clip::{Clip, OwnedTranscript, Transcript, TranscriptSource};

mod owners;
mod windows;

fn transcript(text: &str, start: i64, end: i64, known_at: i64, is_final: bool) -> Transcript {
    let span = Span::new(ms(start), ms(end));
    Transcript {
        source: TranscriptSource::Daemon,
        subject: None,
        text: text.into(),
        words: Transcript::spread(text, span),
        span,
        is_final,
        known_at: ms(known_at),
    }
}

/// Pushes all three streams into an aligner, interleaved by `choices` (0: video, 1: audio, 2:
/// transcripts), until all have ended. Returns all outputs.
fn play_with_transcripts(
    settings: AlignSettings,
    frames: Vec<FramedFaces>,
    blocks: Vec<VadBlock>,
    transcripts: Vec<Transcript>,
    choices: &[u8],
) -> Vec<Aligned> {
    let mut aligner = Aligner::new(settings).awaiting_transcripts();
    let until = blocks.last().map(|h| h.block.span().end);
    let mut lanes: [VecDeque<AlignInput>; 3] = [
        frames
            .into_iter()
            .map(AlignInput::Faces)
            .chain([AlignInput::FacesEnded])
            .collect(),
        blocks
            .into_iter()
            .map(AlignInput::VadBlock)
            .chain([AlignInput::AudioEnded])
            .collect(),
        VecDeque::new(),
    ];
    for transcript in transcripts {
        lanes[2].push_back(AlignInput::TranscriptsUntil(
            transcript.known_at.plus_nanos(-1),
        ));
        lanes[2].push_back(AlignInput::Transcript(transcript));
    }
    lanes[2].extend(until.map(AlignInput::TranscriptsUntil));
    lanes[2].push_back(AlignInput::TranscriptsEnded);
    let (mut output, mut choices) = (Vec::new(), choices.iter().copied().chain((0..3).cycle()));
    while lanes.iter().any(|lane| !lane.is_empty()) {
        if let Some(input) = lanes[usize::from(choices.next().unwrap())].pop_front() {
            aligner.push(input);
            output.extend(std::iter::from_fn(|| aligner.pop(MediaTime::ZERO)));
        }
    }
    output
}

/// The clips of `subject` with text: end of each clip in milliseconds, and its text.
fn texts<'a>(output: &'a [Aligned], subject: SubjectId) -> Vec<(i64, &'a str)> {
    let text = |clip: &&'a Clip| {
        clip.text
            .as_ref()
            .ok()
            .map(|text| (clip.span.end.nanos() / MS, text.text.as_str()))
    };
    clips_of(output, subject).iter().filter_map(text).collect()
}

/// The owner of each transcript in the output.
fn owners(output: &[Aligned]) -> Vec<Option<SubjectId>> {
    output
        .iter()
        .filter_map(|a| {
            if let Aligned::Transcript(owned) = a {
                Some(owned.owner)
            } else {
                None
            }
        })
        .collect()
}

/// The owner of each turn in the output, once at its start and once at its end.
fn turn_owners(output: &[Aligned]) -> Vec<Option<SubjectId>> {
    output
        .iter()
        .filter_map(|a| {
            if let Aligned::Speech(turn) = a {
                Some(turn.owner)
            } else {
                None
            }
        })
        .collect()
}

fn by_a_client(transcript: Transcript) -> Transcript {
    Transcript {
        source: TranscriptSource::Client(1),
        ..transcript
    }
}
