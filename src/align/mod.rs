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
//! least half a hop of usable sight of it has not been shown yet; at the end of a source also if it never got a clip. Speech while no face is
//! there goes to [`SubjectId::Voice`] by the same rules, as long as there is new speech since its last clip.

use std::collections::{BTreeMap, VecDeque};

use crate::clip::{Absence, Clip, ClipVoice, Face, FramedFaces, Heard, SpeechTurn, SubjectChange, SubjectId, SubjectPhase, VoiceActivity, samples_to_nanos};
use crate::speech::WINDOW_SAMPLES;
use crate::time::{MediaTime, Span};

mod floor;
mod presence;
mod sound;

use floor::{Floor, REST_NANOS, Verdict, window_before};
use presence::Presence;
use sound::Sound;

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
    Heard(Heard),
    /// Nothing more will come, and what is waiting is flushed.
    FacesEnded,
    HeardEnded,
    /// Nothing comes for now. As an end, but the source is back when its next item comes.
    FacesLost,
    HeardLost,
}

/// What the aligner says.
#[derive(Clone, Debug)]
pub enum Aligned {
    Subject(SubjectChange),
    Speech(SpeechTurn),
    Clip(Clip),
}

/// Which source a caller that may choose should drain next, so that neither runs ahead of the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    Faces,
    Heard,
    /// Both have ended.
    Nothing,
}

/// One source's place on the timeline.
#[derive(Clone, Copy, Debug)]
struct Source {
    delivering: bool,
    ended: bool,
    watermark: MediaTime,
    /// The shortest time between two frames so far.
    frame_nanos: Option<i64>,
}

const NEVER: MediaTime = MediaTime::from_nanos(i64::MIN);

impl Source {
    fn new(enabled: bool) -> Self {
        Source { delivering: enabled, ended: !enabled, watermark: NEVER, frame_nanos: None }
    }
    /// Up to where everything is known.
    fn known_until(&self) -> MediaTime {
        if self.delivering { self.watermark } else { MediaTime::MAX }
    }
}

#[derive(Debug)]
enum VideoMoment {
    Frame(FramedFaces, Option<i64>),
    End(MediaTime),
}

#[derive(Debug)]
enum AudioMoment {
    Verdict(MediaTime, Kind, VoiceActivity),
    End(MediaTime),
}

impl VideoMoment {
    fn time(&self) -> MediaTime {
        match self {
            VideoMoment::Frame(frame, _) => frame.time,
            VideoMoment::End(time) => *time,
        }
    }
}

impl AudioMoment {
    /// The verdict is due at the end of its window. One that a gap cut short is known only after the gap; by its full length it is past the end
    /// of what was captured, where no watermark can be before it is known.
    fn verdict(activity: VoiceActivity) -> Self {
        let full = activity.span.start.plus_nanos(samples_to_nanos(WINDOW_SAMPLES as i64));
        AudioMoment::Verdict(activity.span.end.max(full), Kind::Audio, activity)
    }
    fn time(&self) -> (MediaTime, Kind) {
        match self {
            AudioMoment::Verdict(time, kind, _) => (*time, *kind),
            AudioMoment::End(time) => (*time, Kind::AudioEnd),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Audio,
    Boundary,
    Video,
    AudioEnd,
}

/// A turn that goes on.
#[derive(Clone, Copy, Debug)]
struct Turn {
    start: MediaTime,
    last_speech: MediaTime,
}

/// Joins the two streams. [`push`](Aligner::push) what comes, [`pop`](Aligner::pop) until `None`, and again at
/// [`next_deadline`](Aligner::next_deadline).
#[derive(Debug)]
pub struct Aligner {
    settings: AlignSettings,
    video: Source,
    audio: Source,
    /// Moments that are waiting; each in the order of its stream.
    video_moments: VecDeque<VideoMoment>,
    audio_moments: VecDeque<AudioMoment>,
    /// The next boundary is at `next_hop * hop`.
    next_hop: i64,

    presences: BTreeMap<SubjectId, Presence>,
    /// Since when no face is there; `None` while one is.
    voice: Option<Presence>,
    sound: Sound,
    floor: Floor,
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
        assert!(settings.length_nanos > 0 && settings.hop_nanos > 0 && settings.face_rate_hz > 0.0, "a window needs a length, a hop and a rate: {settings:?}");
        Aligner {
            settings,
            video: Source::new(settings.video),
            audio: Source::new(settings.audio),
            video_moments: VecDeque::new(),
            audio_moments: VecDeque::new(),
            next_hop: 1,
            presences: BTreeMap::new(),
            voice: Some(Presence::new(MediaTime::ZERO)),
            sound: Sound::default(),
            floor: Floor::default(),
            turn: None,
            cut_turn: None,
            last_speech: NEVER,
            last_frame: None,
            frame_nanos: None,
            ready: VecDeque::new(),
            refused: 0,
        }
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
            (true, false) => Wanted::Heard,
            (false, false) if self.video.watermark <= self.audio.watermark => Wanted::Faces,
            (false, false) => Wanted::Heard,
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
                    self.video.frame_nanos = Some(self.video.frame_nanos.map_or(nanos, |shortest| shortest.min(nanos)));
                }
                (self.video.delivering, self.video.watermark) = (true, frame.time);
                self.video_moments.push_back(VideoMoment::Frame(frame, self.video.frame_nanos));
            }
            AlignInput::Heard(Heard { block, activity }) => {
                if !self.sound.push(block) {
                    self.refused += 1;
                    return;
                }
                self.audio_moments.extend(activity.into_iter().map(AudioMoment::verdict));
                if let Some(until) = self.sound.until() {
                    (self.audio.delivering, self.audio.watermark) = (true, until);
                }
            }
            AlignInput::FacesEnded => {
                self.video.ended = true;
                self.stop_video();
            }
            AlignInput::FacesLost => self.stop_video(),
            AlignInput::HeardEnded => {
                self.audio.ended = true;
                self.stop_audio();
            }
            AlignInput::HeardLost => self.stop_audio(),
        }
    }

    fn stop_video(&mut self) {
        if std::mem::replace(&mut self.video.delivering, false) && self.video.watermark != NEVER {
            self.video_moments.push_back(VideoMoment::End(self.video.watermark.plus_nanos(self.video.frame_nanos.unwrap_or(1))));
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
        }
    }

    /// The next thing that is due. `now`: the time on the clock that drives the aligner (offline any, since nothing is late).
    pub fn pop(&mut self, now: MediaTime) -> Option<Aligned> {
        let known = self.video.known_until().min(self.audio.known_until());
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
        self.next_moment().map(|(time, _)| time.plus_nanos(lateness))
    }

    fn next_moment(&self) -> Option<(MediaTime, Kind)> {
        let audio = self.audio_moments.front().map(AudioMoment::time);
        let video = self.video_moments.front().map(|m| (m.time(), Kind::Video));
        let boundary = (!self.is_idle()).then(|| (self.boundary(), Kind::Boundary));
        [audio, boundary, video].into_iter().flatten().min()
    }

    fn boundary(&self) -> MediaTime {
        MediaTime::from_nanos(self.next_hop.saturating_mul(self.settings.hop_nanos))
    }

    /// Has the grid's next boundary nothing to show, whatever else comes before it?
    fn is_idle(&self) -> bool {
        self.presences.is_empty() && self.voice.as_ref().is_none_or(|voice| !self.has_new_speech(voice))
    }

    fn take(&mut self, time: MediaTime, kind: Kind, now: MediaTime) {
        if self.is_idle() {
            // Nothing to show: on to the first boundary that is not before this moment.
            let hop = self.settings.hop_nanos;
            self.next_hop = self.next_hop.max(time.nanos().div_euclid(hop) + i64::from(time.nanos().rem_euclid(hop) > 0));
        }
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
        }
        self.forget_before(time);
    }

    fn take_verdict(&mut self, activity: VoiceActivity, time: MediaTime) {
        self.sound.judge(activity);
        if self.turn.is_some_and(|turn| activity.turn != Some(turn.start)) {
            self.end_turn(time);
        }
        if activity.speech {
            self.last_speech = activity.span.end;
        }
        match (&mut self.turn, activity.turn) {
            (Some(turn), _) if activity.speech => turn.last_speech = activity.span.end,
            (None, Some(start)) if self.cut_turn != Some(start) => {
                self.cut_turn = None;
                self.turn = Some(Turn { start, last_speech: activity.span.end });
                self.floor.open();
                let owner = self.turn_owner(time);
                self.ready.push_back(Aligned::Speech(SpeechTurn { start, end: None, owner }));
            }
            _ => {}
        }
    }

    fn end_turn(&mut self, time: MediaTime) {
        if let Some(turn) = self.turn.take() {
            let owner = self.turn_owner(time);
            self.ready.push_back(Aligned::Speech(SpeechTurn { start: turn.start, end: Some(turn.last_speech), owner }));
        }
    }

    /// Whose the turn is at `time`: a subject that is more likely than all others together, the voice if no face is there, else nobody yet.
    fn turn_owner(&mut self, time: MediaTime) -> Option<SubjectId> {
        match self.judge_floor(time) {
            Some(verdict) => (verdict.confidence > 0.5 || self.presences.len() == 1).then_some(verdict.owner),
            None => self.presences.is_empty().then_some(SubjectId::Voice),
        }
    }

    fn judge_floor(&mut self, time: MediaTime) -> Option<Verdict> {
        let window = window_before(time, self.settings.length_nanos);
        self.floor.judge(self.presences.iter().map(|(subject, presence)| (*subject, presence)), &self.sound, window)
    }

    fn take_frame(&mut self, frame: FramedFaces, now: MediaTime) {
        let time = frame.time;
        self.last_frame = Some(time);
        let mut changes = frame.changes;
        changes.sort_by_key(|change| change.subject);
        let gone = |subject: SubjectId, changes: &[SubjectChange]| changes.iter().any(|c| c.subject == subject && is_end(c.phase));
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
            self.ready.push_back(Aligned::Subject(change));
        }
    }

    fn see(&mut self, face: std::sync::Arc<Face>) {
        let rate_hz = self.settings.face_rate_hz;
        if let Some(presence) = self.presences.get_mut(&face.subject) {
            presence.see(face, rate_hz);
        }
    }

    fn appear(&mut self, subject: SubjectId, time: MediaTime, now: MediaTime) {
        if self.presences.contains_key(&subject) {
            return;
        }
        if let Some(voice) = self.voice.take() {
            self.flush_voice(&voice, time, false, now);
        }
        self.presences.insert(subject, Presence::new(time.max(MediaTime::ZERO)));
    }

    /// The subject is gone since `end`, as the frame at `time` tells.
    fn lose(&mut self, subject: SubjectId, end: MediaTime, time: MediaTime, now: MediaTime) {
        let Some(presence) = self.presences.get(&subject) else { return };
        let shown = presence.clipped_until.unwrap_or(presence.since);
        if end > shown && 2 * presence.unshown_nanos(self.frame_nanos.unwrap_or(0)) >= self.settings.hop_nanos {
            self.cut_clip(subject, end, time, now);
        }
        self.presences.remove(&subject);
        self.note_absence(time);
    }

    fn note_absence(&mut self, time: MediaTime) {
        if self.presences.is_empty() && self.voice.is_none() {
            self.voice = Some(Presence::new(time.max(MediaTime::ZERO)));
        }
    }

    fn end_video(&mut self, end: MediaTime, now: MediaTime) {
        let due: Vec<_> = self
            .presences
            .iter()
            .filter(|(_, p)| {
                let never = p.clipped_until.is_none() && p.seen.is_some();
                never || 2 * p.unshown_nanos(self.frame_nanos.unwrap_or(0)) >= self.settings.hop_nanos
            })
            .map(|(subject, _)| *subject)
            .collect();
        for subject in due {
            self.cut_clip(subject, end, end, now);
        }
        self.presences.clear();
        self.note_absence(end);
    }

    fn end_audio(&mut self, end: MediaTime, now: MediaTime) {
        self.cut_turn = self.turn.map(|turn| turn.start).or(self.cut_turn);
        self.end_turn(end);
        if let Some(mut voice) = self.voice.take() {
            if self.flush_voice(&voice, end, true, now) {
                voice.clipped_until = Some(end);
            }
            self.voice = Some(voice);
        }
    }

    /// The boundary at `time`.
    fn cut_at(&mut self, time: MediaTime, now: MediaTime) {
        let window = window_before(time, self.settings.length_nanos);
        if !self.presences.is_empty() && self.last_frame.is_none_or(|last| last < window.start) {
            // The camera has shown nothing for a whole window: nobody is seen, whoever was there.
            self.presences.clear();
            // What they said was shown up to the boundary before.
            self.note_absence(time.plus_nanos(-self.settings.hop_nanos));
        }
        let due: Vec<_> = self
            .presences
            .iter()
            .filter(|(_, p)| p.clipped_until.is_none_or(|shown| shown < time) && 2 * time.nanos_since(p.since) >= self.settings.hop_nanos)
            .map(|(subject, _)| *subject)
            .collect();
        for subject in due {
            self.cut_clip(subject, time, time, now);
        }
        if let Some(mut voice) = self.voice.take() {
            if self.has_new_speech(&voice) {
                let span = Span::new(voice.since.max(window.start).min(time), time);
                let enough = self.sound.speech_nanos(span) >= self.settings.min_speech_nanos;
                if enough && 2 * time.nanos_since(voice.since) >= self.settings.hop_nanos {
                    self.ready.push_back(Aligned::Clip(self.voice_clip(span, now)));
                    voice.clipped_until = Some(time);
                } else if self.last_speech <= window.start {
                    // A blip that has left the window: nothing to show any more.
                    voice.clipped_until = Some(time);
                }
            }
            self.voice = Some(voice);
        }
    }

    fn has_new_speech(&self, voice: &Presence) -> bool {
        self.last_speech > voice.clipped_until.unwrap_or(voice.since).max(voice.since)
    }

    /// What is waiting of a voice without a face, at its end. `true` if there was enough of it.
    fn flush_voice(&mut self, voice: &Presence, end: MediaTime, source_ended: bool, now: MediaTime) -> bool {
        let shown = voice.clipped_until.unwrap_or(voice.since).max(voice.since);
        let first = source_ended && voice.clipped_until.is_none();
        if !self.has_new_speech(voice) || end <= shown || (!first && 2 * self.last_speech.nanos_since(shown) < self.settings.hop_nanos) {
            return false;
        }
        let span = Span::new(voice.since.max(end.plus_nanos(-self.settings.length_nanos)), end);
        if self.sound.speech_nanos(span) < self.settings.min_speech_nanos {
            return false;
        }
        self.ready.push_back(Aligned::Clip(self.voice_clip(span, now)));
        true
    }

    /// A clip of `subject` that ends at `end`, judged with what is known at `time`.
    fn cut_clip(&mut self, subject: SubjectId, end: MediaTime, time: MediaTime, now: MediaTime) {
        let verdict = self.judge_floor(time);
        let Some(presence) = self.presences.get_mut(&subject) else { return };
        let since = presence.since.max(end.plus_nanos(-self.settings.length_nanos)).min(end);
        let span = Span::new(since, end);
        presence.clipped_until = Some(end);
        let presence = &self.presences[&subject];
        let (faces, faces_missing) = presence.faces_in(span, self.settings.face_rate_hz);
        let face_absence = match (faces.is_empty(), presence.is_seen_in(span)) {
            (false, _) => None,
            (true, true) => Some(Absence::LowQuality),
            (true, false) => Some(Absence::NoFace),
        };
        let voice = self.voice_in(span).and_then(|voice| match verdict {
            Some(verdict) if verdict.owner == subject => Ok(ClipVoice { owner_confidence: verdict.confidence, ..voice }),
            _ => Err(Absence::NotOwner),
        });
        let skew_nanos = voice.as_ref().ok().zip(faces.last()).map(|(voice, face)| voice.newest.nanos_since(face.time));
        let text = Err(Absence::NoTranscript);
        self.ready.push_back(Aligned::Clip(Clip { subject, span, faces, faces_missing, face_absence, voice, text, skew_nanos, aligned_at: now }));
    }

    fn voice_clip(&self, span: Span, now: MediaTime) -> Clip {
        let delivers = self.last_frame.is_some_and(|last| last >= span.start);
        let face_absence = Some(if delivers { Absence::NoFace } else { Absence::NoSource });
        let (voice, text) = (self.voice_in(span), Err(Absence::NoTranscript));
        Clip { subject: SubjectId::Voice, span, faces: Vec::new(), faces_missing: 0, face_absence, voice, text, skew_nanos: None, aligned_at: now }
    }

    /// The voice in `span`, as surely as if there were but one who could speak.
    fn voice_in(&self, span: Span) -> Result<ClipVoice, Absence> {
        if !self.settings.audio || !self.sound.has(span) {
            return Err(Absence::NoSource);
        }
        let speech_nanos = self.sound.speech_nanos(span);
        if speech_nanos < self.settings.min_speech_nanos || speech_nanos == 0 {
            return Err(Absence::NoSpeech);
        }
        let cut = self.sound.cut(span).ok_or(Absence::NoSource)?;
        let speech = (speech_nanos as f64 / span.nanos() as f64).min(1.0) as f32;
        Ok(ClipVoice { samples: cut.samples, speech, missing_nanos: cut.missing_nanos, owner_confidence: 1.0, newest: cut.newest })
    }

    /// No later clip reaches back further than a window and two hops before `time`; lips and silence are looked at a little longer.
    fn forget_before(&mut self, time: MediaTime) {
        let clips_from = time.plus_nanos(-self.settings.length_nanos - 2 * self.settings.hop_nanos);
        let lips_from = clips_from.min(time.plus_nanos(-REST_NANOS));
        self.sound.forget(clips_from, lips_from);
        for presence in self.presences.values_mut() {
            presence.forget(clips_from, lips_from);
        }
    }

    /// How much is kept, for the tests that hold it bounded.
    #[cfg(test)]
    fn held(&self) -> usize {
        self.video_moments.len() + self.audio_moments.len() + self.ready.len() + self.sound.held() + self.presences.values().map(Presence::held).sum::<usize>()
    }
}

fn is_end(phase: SubjectPhase) -> bool {
    matches!(phase, SubjectPhase::Lost | SubjectPhase::Merged)
}
