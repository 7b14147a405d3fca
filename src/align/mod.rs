//! The aligner: faces and sound become clips, one per subject and hop. Pure: no thread, no channel, no clock.
//!
//! # Time
//! Hops lie on one grid of media time, `k * hop`, for all subjects. What happens on the timeline is a *moment*: a verdict on a piece of sound,
//! a boundary of the grid, a frame, the end of a source. Moments are taken in one order, by time, then in the order of that list; so what
//! comes out depends on the two streams alone, never on how they interleave nor on the length of blocks. A moment is taken once every source
//! that holds it back has passed it (its watermark: the newest frame, the end of the newest block), or, live, when it is
//! [`AlignSettings::lateness_nanos`] late. A source that is off, lost or ended holds nothing back.
//!
//! # Order of what comes out
//! By the time at which it is known, then speech, clips, changes of subjects, then the subject. A turn is known when it has lasted for a while
//! (or the silence after it has). A clip shows what was before its end; a change stands at the frame that shows it; so at one and the same
//! time the clip comes first, and a subject's last clip comes before its loss.
//!
//! # Spans
//! A clip's span is the window before its boundary, cut where the subject appeared: it grows from its appearance, and the first clip is due at
//! the first boundary at least half a hop after it. A subject that is lost, or whose source ends, gets one last clip that ends there if at
//! least half a hop of usable sight of it has not been shown yet, or if it never got a clip: whoever appears is told of at least once. Speech
//! while no face is there goes to [`SubjectId::Voice`] by the same rules, as long as there is new speech since its last clip.

use std::collections::{BTreeMap, VecDeque};

use crate::clip::{
    Clip, FramedFaces, OwnedTranscript, SpeechTurn, SubjectChange, SubjectId, SubjectPhase,
    Transcript, VadBlock,
};
use crate::time::{MediaTime, Span};

mod active_speaker;
mod cut;
mod moment;
mod presence;
mod sound;
mod turn;
mod words;

use active_speaker::{ActiveSpeaker, KEPT_NANOS, window_before};
use moment::{AudioMoment, Kind, NEVER, Source, VideoMoment};
use presence::Presence;
use sound::Sound;
use turn::Turn;
use words::Words;

#[cfg(test)]
mod tests;

/// The rule that cuts clips, and which sources there are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AlignSettings {
    /// Length of a clip, in nanoseconds.
    pub length_nanos: i64,
    /// From one clip's end to the next one's, in nanoseconds.
    pub hop_nanos: i64,
    /// Faces a second.
    pub face_rate_hz: f64,
    /// Less speech than this in a clip is no voice.
    pub min_speech_nanos: i64,
    /// How long after a boundary a source is waited for. `None`: for ever (offline).
    pub lateness_nanos: Option<i64>,
    /// Is there a camera at all?
    pub video: bool,
    /// Is there a microphone at all?
    pub audio: bool,
}

/// What the aligner is told.
#[derive(Clone, Debug)]
pub enum AlignInput {
    Faces(FramedFaces),
    VadBlock(VadBlock),
    /// Nothing more will come, and what is waiting is flushed.
    FacesEnded,
    AudioEnded,
    /// Nothing comes for now. As an end, but the source is back when its next item comes.
    FacesLost,
    AudioLost,
    Words(Transcript),
    /// Offline: all words that are known up to here have been told.
    WordsUntil(MediaTime),
    WordsEnded,
}

impl AlignInput {
    /// Must arrive: without it a subject, a word or the end of a source would be missing. Pictures
    /// without a change and sound are what a lane may drop.
    pub fn is_control(&self) -> bool {
        match self {
            AlignInput::Faces(faces) => !faces.changes.is_empty(),
            AlignInput::VadBlock(_) => false,
            _ => true,
        }
    }
}

/// What the aligner says.
#[derive(Clone, Debug)]
pub enum Aligned {
    Subject(SubjectChange),
    Speech(SpeechTurn),
    Words(OwnedTranscript),
    Clip(Clip),
}

/// Which source a caller that may choose should drain next, so that neither runs ahead of the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    Faces,
    VadBlock,
    /// Both have ended.
    Nothing,
}

/// Joins the two streams. [`push`](Aligner::push) what comes, [`pop`](Aligner::pop) until `None`, and again at
/// [`next_deadline`](Aligner::next_deadline).
#[derive(Debug)]
pub struct Aligner {
    settings: AlignSettings,
    video: Source,
    audio: Source,
    /// The transcriber, where the aligner waits for it.
    transcriber: Source,
    /// Moments that are waiting; each in the order of its stream.
    video_moments: VecDeque<VideoMoment>,
    audio_moments: VecDeque<AudioMoment>,
    word_moments: VecDeque<Transcript>,
    /// The next boundary is at `next_hop * hop`.
    next_hop: i64,

    presences: BTreeMap<SubjectId, Presence>,
    /// Who has left: whose lips moved is still asked when words are told of that time.
    departed: BTreeMap<SubjectId, Presence>,
    /// Since when no face is there; `None` while one is.
    voice: Option<Presence>,
    sound: Sound,
    words: Words,
    active_speaker: ActiveSpeaker,
    turn: Option<Turn>,
    /// The start of a turn that was ended because its source was.
    cut_turn: Option<MediaTime>,
    last_speech: MediaTime,
    last_frame: Option<MediaTime>,
    /// The shortest time between two frames so far: how long a frame stands at least.
    frame_nanos: Option<i64>,

    ready: VecDeque<Aligned>,
    refused: u64,
}

impl Aligner {
    /// # Panics
    /// If length, hop or rate is not positive.
    pub fn new(settings: AlignSettings) -> Self {
        assert!(
            settings.length_nanos > 0 && settings.hop_nanos > 0 && settings.face_rate_hz > 0.0,
            "a window needs a length, a hop and a rate: {settings:?}"
        );
        Aligner {
            settings,
            video: Source::new(settings.video),
            audio: Source::new(settings.audio),
            transcriber: Source::new(false),
            video_moments: VecDeque::new(),
            audio_moments: VecDeque::new(),
            word_moments: VecDeque::new(),
            next_hop: 1,
            presences: BTreeMap::new(),
            departed: BTreeMap::new(),
            voice: Some(Presence::new(MediaTime::ZERO)),
            sound: Sound::default(),
            words: Words::default(),
            active_speaker: ActiveSpeaker::default(),
            turn: None,
            cut_turn: None,
            last_speech: NEVER,
            last_frame: None,
            frame_nanos: None,
            ready: VecDeque::new(),
            refused: 0,
        }
    }

    /// A transcriber listens: offline, clips wait for its words.
    pub fn awaiting_words(mut self) -> Self {
        self.transcriber = Source::new(self.settings.lateness_nanos.is_none());
        self
    }

    /// Items whose stamps went back: a fault of their source.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// The source that is behind.
    pub fn wanted(&self) -> Wanted {
        match (self.video.ended, self.audio.ended) {
            (true, true) => Wanted::Nothing,
            (false, true) => Wanted::Faces,
            (true, false) => Wanted::VadBlock,
            (false, false) if self.video.watermark <= self.audio.watermark => Wanted::Faces,
            (false, false) => Wanted::VadBlock,
        }
    }

    pub fn push(&mut self, input: AlignInput) {
        match input {
            AlignInput::Faces(frame) => {
                if frame.time <= self.video.watermark {
                    self.refused += 1;
                    return;
                }
                if self.video.delivering && self.video.watermark != NEVER {
                    let nanos = frame.time.nanos_since(self.video.watermark);
                    self.video.frame_nanos = Some(
                        self.video
                            .frame_nanos
                            .map_or(nanos, |shortest| shortest.min(nanos)),
                    );
                }
                (self.video.delivering, self.video.watermark) = (true, frame.time);
                self.video_moments
                    .push_back(VideoMoment::Frame(frame, self.video.frame_nanos));
            }
            AlignInput::VadBlock(VadBlock { block, activity }) => {
                if !self.sound.push(block) {
                    self.refused += 1;
                    return;
                }
                self.audio_moments
                    .extend(activity.into_iter().map(AudioMoment::verdict));
                if let Some(until) = self.sound.until() {
                    (self.audio.delivering, self.audio.watermark) = (true, until);
                }
            }
            AlignInput::FacesEnded => {
                self.video.ended = true;
                self.stop_video();
            }
            AlignInput::FacesLost => self.stop_video(),
            AlignInput::AudioEnded => {
                self.audio.ended = true;
                self.stop_audio();
            }
            AlignInput::AudioLost => self.stop_audio(),
            AlignInput::Words(transcript) if self.settings.lateness_nanos.is_some() => {
                self.take_words(transcript)
            }
            AlignInput::Words(transcript) => {
                self.word_moments.push_back(transcript);
                self.know_words_by_the_end();
            }
            AlignInput::WordsUntil(time) => {
                self.transcriber.watermark = self.transcriber.watermark.max(time)
            }
            AlignInput::WordsEnded => {
                (self.transcriber.delivering, self.transcriber.ended) = (false, true)
            }
        }
    }

    fn stop_video(&mut self) {
        if std::mem::replace(&mut self.video.delivering, false) && self.video.watermark != NEVER {
            self.video_moments.push_back(VideoMoment::End(
                self.video
                    .watermark
                    .plus_nanos(self.video.frame_nanos.unwrap_or(1)),
            ));
        }
    }

    fn stop_audio(&mut self) {
        if std::mem::replace(&mut self.audio.delivering, false)
            && let Some(until) = self.sound.until()
        {
            // The last window, which the end cut short, belongs to the end: nothing of the recording lies behind it.
            for moment in &mut self.audio_moments {
                if let AudioMoment::Verdict(time, kind, _) = moment
                    && *time > until
                {
                    (*time, *kind) = (until, Kind::AudioEnd);
                }
            }
            self.audio_moments.push_back(AudioMoment::End(until));
            self.know_words_by_the_end();
        }
    }

    /// Words of a last window that the end cut short are the end's too.
    fn know_words_by_the_end(&mut self) {
        if let Some(until) = self.sound.until().filter(|_| !self.audio.delivering) {
            for transcript in &mut self.word_moments {
                transcript.known_at = transcript.known_at.min(until);
            }
        }
    }

    /// The next thing that is due. `now`: the time on the clock that drives the aligner (offline any, since nothing is late).
    pub fn pop(&mut self, now: MediaTime) -> Option<Aligned> {
        let known = self
            .video
            .known_until()
            .min(self.audio.known_until())
            .min(self.transcriber.known_until());
        let due = match self.settings.lateness_nanos {
            Some(lateness) => known.max(now.plus_nanos(-lateness)),
            None => known,
        };
        while self.ready.is_empty() {
            let Some((time, kind)) = self.next_moment().filter(|(time, _)| *time <= due) else {
                self.forget_before(if due == MediaTime::MAX { NEVER } else { due });
                break;
            };
            self.take(time, kind, now);
        }
        self.ready.pop_front()
    }

    /// When to call [`pop`](Aligner::pop) again although nothing came; `None`: not before something comes.
    pub fn next_deadline(&self) -> Option<MediaTime> {
        let lateness = self.settings.lateness_nanos?;
        self.next_moment()
            .map(|(time, _)| time.plus_nanos(lateness))
    }

    fn next_moment(&self) -> Option<(MediaTime, Kind)> {
        let audio = self.audio_moments.front().map(AudioMoment::time);
        let video = self.video_moments.front().map(|m| (m.time(), Kind::Video));
        let boundary = (!self.is_idle()).then(|| (self.boundary(), Kind::Boundary));
        let words = self
            .word_moments
            .front()
            .map(|transcript| (transcript.known_at, Kind::Words));
        [audio, words, boundary, video].into_iter().flatten().min()
    }

    fn boundary(&self) -> MediaTime {
        MediaTime::from_nanos(self.next_hop.saturating_mul(self.settings.hop_nanos))
    }

    /// Has the grid's next boundary nothing to show, whatever else comes before it?
    fn is_idle(&self) -> bool {
        self.presences.is_empty()
            && self
                .voice
                .as_ref()
                .is_none_or(|voice| !self.has_new_speech(voice) && !self.has_new_words(voice))
    }

    fn take(&mut self, time: MediaTime, kind: Kind, now: MediaTime) {
        self.pass_idle_boundaries(time);
        match kind {
            Kind::Boundary => {
                self.next_hop += 1;
                self.cut_at(time, now);
            }
            Kind::Audio | Kind::AudioEnd => match self.audio_moments.pop_front() {
                Some(AudioMoment::Verdict(_, _, activity)) => self.take_verdict(activity, time),
                Some(AudioMoment::End(end)) => self.end_audio(end, now),
                None => {}
            },
            Kind::Video => match self.video_moments.pop_front() {
                Some(VideoMoment::Frame(frame, frame_nanos)) => {
                    self.frame_nanos = frame_nanos;
                    self.take_frame(frame, now);
                }
                Some(VideoMoment::End(end)) => self.end_video(end, now),
                None => {}
            },
            Kind::Words => {
                if let Some(transcript) = self.word_moments.pop_front() {
                    self.take_words(transcript);
                }
            }
        }
        self.forget_before(time);
    }

    /// Nothing to show: on to the first boundary that is not before `time`.
    fn pass_idle_boundaries(&mut self, time: MediaTime) {
        if self.is_idle() {
            let hop = self.settings.hop_nanos;
            self.next_hop = self
                .next_hop
                .max(time.nanos().div_euclid(hop) + i64::from(time.nanos().rem_euclid(hop) > 0));
        }
    }

    fn take_frame(&mut self, frame: FramedFaces, now: MediaTime) {
        let time = frame.time;
        self.last_frame = Some(time);
        let mut changes = frame.changes;
        changes.sort_by_key(|change| change.subject);
        let gone = |subject: SubjectId, changes: &[SubjectChange]| {
            changes
                .iter()
                .any(|c| c.subject == subject && is_end(c.phase))
        };
        for change in &changes {
            if change.phase == SubjectPhase::Appeared {
                self.appear(change.subject, time, now);
            }
        }
        for face in frame.faces {
            if !gone(face.subject, &changes) {
                self.appear(face.subject, time, now);
                self.see(face);
            }
        }
        for change in changes {
            if is_end(change.phase) {
                self.lose(change.subject, change.time.min(time), time, now);
            }
            if let Some(into) = change.into {
                self.merge(change.subject, into);
            }
            self.ready.push_back(Aligned::Subject(change));
        }
    }

    /// The boundary at `time`.
    fn cut_at(&mut self, time: MediaTime, now: MediaTime) {
        let window = window_before(time, self.settings.length_nanos);
        if !self.presences.is_empty() && self.last_frame.is_none_or(|last| last < window.start) {
            // The camera has shown nothing for a whole window: nobody is seen, whoever was there.
            self.all_depart();
            // What they said was shown up to the boundary before.
            self.note_absence(time.plus_nanos(-self.settings.hop_nanos));
        }
        let due: Vec<_> = self
            .presences
            .iter()
            .filter(|(_, p)| {
                p.clipped_until.is_none_or(|shown| shown < time)
                    && 2 * time.nanos_since(p.since) >= self.settings.hop_nanos
            })
            .map(|(subject, _)| *subject)
            .collect();
        self.cut_clips(&due, time, time, now);
        if let Some(mut voice) = self.voice.take() {
            if self.has_new_speech(&voice) || self.has_new_words(&voice) {
                let span = Span::new(voice.since.max(window.start).min(time), time);
                let enough = self.sound.speech_nanos(span) >= self.settings.min_speech_nanos
                    || self.words_without_a_face(span).is_ok();
                if enough && 2 * time.nanos_since(voice.since) >= self.settings.hop_nanos {
                    self.ready
                        .push_back(Aligned::Clip(self.voice_clip(span, now)));
                    voice.clipped_until = Some(time);
                } else if self.last_speech <= window.start && !self.words.come_after(time) {
                    // A blip that has left the window, words of before the face left: nothing to show any more.
                    voice.clipped_until = Some(time);
                }
            }
            self.voice = Some(voice);
        }
    }

    /// No later clip reaches back further than a window and two hops before `time`; lips and silence are looked at a little longer.
    fn forget_before(&mut self, time: MediaTime) {
        let clips_from = time.plus_nanos(-self.settings.length_nanos - 2 * self.settings.hop_nanos);
        let lips_from = clips_from.min(time.plus_nanos(-KEPT_NANOS));
        self.sound.forget(clips_from, lips_from);
        self.words.forget(clips_from);
        for presence in self.presences.values_mut() {
            presence.forget(clips_from, lips_from);
        }
        self.departed.retain(|_, presence| {
            presence.forget(clips_from, lips_from);
            presence.lips().next().is_some()
        });
    }

    /// How much is kept, for the tests that hold it bounded.
    #[cfg(test)]
    fn held(&self) -> usize {
        self.video_moments.len()
            + self.audio_moments.len()
            + self.word_moments.len()
            + self.ready.len()
            + self.sound.held()
            + self.words.held()
            + self
                .presences
                .values()
                .chain(self.departed.values())
                .map(Presence::held)
                .sum::<usize>()
    }
}

fn is_end(phase: SubjectPhase) -> bool {
    matches!(phase, SubjectPhase::Lost | SubjectPhase::Merged)
}
