//! The aligner: joins faces, audio and transcripts to clips, one per subject and hop. Pure: no
//! thread, no channel, no clock.
//!
//! # Time
//! Hops lie on one grid of media time, `k * hop`, for all subjects. An event on the timeline is a
//! *moment*: a voice-activity window, a transcript, a boundary of the grid, a frame, or the end of
//! the audio. Moments are processed in order of time, then in the order of this list. The output
//! therefore depends on the streams alone, not on their interleaving or on block lengths.
//!
//! A moment is processed once every source has passed it by its watermark: the newest frame, or the
//! end of the newest block. Live, it is processed at the latest [`AlignSettings::lateness_nanos`]
//! after its time. No moment waits for a source that is off, lost or ended.
//!
//! # Order of the output
//! Outputs are ordered by the time at which they are known, then speech, clips and subject changes,
//! then by subject. A turn is known after its minimum length, its end after the minimum silence. A
//! clip shows data before its end; a change has its frame's time. At equal times the clip therefore
//! is first, and a subject's last clip precedes its loss.
//!
//! # Spans
//! A clip's span is the window before its boundary, limited to the time since the subject appeared.
//! The first clip is due at the first boundary at least half a hop after the appearance. A subject
//! that is lost, or ends with its source, may get one last clip that ends there. It needs at least
//! half a hop of usable observations that are in no clip, or no earlier clip: every subject gets at
//! least one clip. Speech without a visible face belongs to [`SubjectId::Voice`] by the same
//! rules, as long as there is new speech since its last clip.

use std::collections::{BTreeMap, VecDeque};

use crate::clip::{FramedFaces, SubjectChange, SubjectId, SubjectPhase, Transcript, VadBlock};
use crate::time::{MediaTime, Span};

mod active_speaker;
mod cut;
mod moment;
mod presence;
mod sound;
mod streams;
mod transcripts;
mod turn;

use active_speaker::{ActiveSpeaker, KEPT_NANOS, window_before};
use moment::{AudioMoment, MomentKind, NEVER, Source, VideoMoment};
use presence::Presence;
use sound::AudioHistory;
use transcripts::Transcripts;
use turn::Turn;

pub use streams::{AlignInput, AlignSettings, Aligned, NextInput};

#[cfg(test)]
mod tests;

/// Joins the streams of faces, audio and transcripts to clips. The caller calls
/// [`push`](Aligner::push) with each input, then [`pop`](Aligner::pop) until `None`, and again at
/// [`next_deadline`](Aligner::next_deadline).
#[derive(Debug)]
pub struct Aligner {
    settings: AlignSettings,
    video: Source,
    audio: Source,
    /// State of the transcriber; it delivers only if clips wait for its transcripts.
    transcriber: Source,
    /// Moments of the video stream that are not processed yet, in the order of the stream.
    video_moments: VecDeque<VideoMoment>,
    /// Moments of the audio stream that are not processed yet, in the order of the stream.
    audio_moments: VecDeque<AudioMoment>,
    /// Offline: transcripts that are not processed yet, in order of arrival.
    transcript_moments: VecDeque<Transcript>,
    /// Index of the next boundary of the grid; its time is `next_hop * hop_nanos`.
    next_hop: i64,

    /// The subjects that are present.
    presences: BTreeMap<SubjectId, Presence>,
    /// Lost subjects with their lip motion, to which late transcripts may still be attributed.
    departed: BTreeMap<SubjectId, Presence>,
    /// Presence of the off-camera voice; `None` while a subject is present.
    voice: Option<Presence>,
    sound: AudioHistory,
    transcripts: Transcripts,
    active_speaker: ActiveSpeaker,
    turn: Option<Turn>,
    /// Start of the turn that was open when the audio stopped. The turn is not reopened.
    interrupted_turn: Option<MediaTime>,
    /// End of the newest window with speech.
    last_speech: MediaTime,
    /// Time of the newest processed frame; `None` before the first frame.
    last_frame: Option<MediaTime>,
    /// Shortest distance between two consecutive frames so far, in nanoseconds: the assumed display
    /// time of the newest frame. `None` before the second frame.
    frame_nanos: Option<i64>,

    /// Outputs that are due, in order.
    ready: VecDeque<Aligned>,
    /// Number of dropped inputs; see [`Aligner::refused`].
    refused: u64,
}

impl Aligner {
    /// Creates an aligner without data.
    ///
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
            transcript_moments: VecDeque::new(),
            next_hop: 1,
            presences: BTreeMap::new(),
            departed: BTreeMap::new(),
            voice: Some(Presence::new(MediaTime::ZERO)),
            sound: AudioHistory::default(),
            transcripts: Transcripts::default(),
            active_speaker: ActiveSpeaker::default(),
            turn: None,
            interrupted_turn: None,
            last_speech: NEVER,
            last_frame: None,
            frame_nanos: None,
            ready: VecDeque::new(),
            refused: 0,
        }
    }

    /// Makes clips wait for the transcripts of a transcriber. Only offline; a live aligner never
    /// waits for transcripts.
    pub fn awaiting_transcripts(mut self) -> Self {
        self.transcriber = Source::new(self.settings.lateness_nanos.is_none());
        self
    }

    /// Number of frames and audio blocks that were dropped because their stamps went back, a fault
    /// of their source.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// The source from which the caller should read next: the one with the older watermark, if it
    /// has not ended.
    pub fn next_input(&self) -> NextInput {
        match (self.video.ended, self.audio.ended) {
            (true, true) => NextInput::Ended,
            (false, true) => NextInput::Faces,
            (true, false) => NextInput::VadBlock,
            (false, false) if self.video.watermark <= self.audio.watermark => NextInput::Faces,
            (false, false) => NextInput::VadBlock,
        }
    }

    /// Adds an input. Frames and audio blocks whose stamps went back are dropped and counted by
    /// [`Aligner::refused`].
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
                    .extend(activity.into_iter().map(AudioMoment::window));
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
            AlignInput::Transcript(transcript) if self.settings.lateness_nanos.is_some() => {
                self.take_transcript(transcript)
            }
            AlignInput::Transcript(transcript) => {
                self.transcript_moments.push_back(transcript);
                self.limit_known_times();
            }
            AlignInput::TranscriptsUntil(time) => {
                self.transcriber.watermark = self.transcriber.watermark.max(time)
            }
            AlignInput::TranscriptsEnded => {
                (self.transcriber.delivering, self.transcriber.ended) = (false, true)
            }
        }
    }

    /// Marks the video source as not delivering, and queues the end of its last frame as a moment.
    fn stop_video(&mut self) {
        if std::mem::replace(&mut self.video.delivering, false) && self.video.watermark != NEVER {
            self.video_moments.push_back(VideoMoment::End(
                self.video
                    .watermark
                    .plus_nanos(self.video.frame_nanos.unwrap_or(1)),
            ));
        }
    }

    /// Marks the audio source as not delivering, and queues the end of its last block as a moment.
    fn stop_audio(&mut self) {
        if std::mem::replace(&mut self.audio.delivering, false)
            && let Some(until) = self.sound.until()
        {
            // The last, incomplete voice-activity window is processed at the end of the audio,
            // because no data follows.
            for moment in &mut self.audio_moments {
                if let AudioMoment::Window(time, kind, _) = moment
                    && *time > until
                {
                    (*time, *kind) = (until, MomentKind::AudioEnd);
                }
            }
            self.audio_moments.push_back(AudioMoment::End(until));
            self.limit_known_times();
        }
    }

    /// Once the audio has stopped, limits `known_at` of the waiting transcripts to its end. It
    /// could lie later, at the full length of a last, incomplete window.
    fn limit_known_times(&mut self) {
        if let Some(until) = self.sound.until().filter(|_| !self.audio.delivering) {
            for transcript in &mut self.transcript_moments {
                transcript.known_at = transcript.known_at.min(until);
            }
        }
    }

    /// The next output that is due; `None` if none is due yet. `now` is the current time of the
    /// clock that drives the aligner; offline it has no effect on the order.
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

    /// Time at which the next [`pop`](Aligner::pop) may return an output without further input.
    /// `None`: outputs become due only by further input.
    pub fn next_deadline(&self) -> Option<MediaTime> {
        let lateness = self.settings.lateness_nanos?;
        self.next_moment()
            .map(|(time, _)| time.plus_nanos(lateness))
    }

    /// Time and kind of the earliest moment that is not processed yet.
    fn next_moment(&self) -> Option<(MediaTime, MomentKind)> {
        let audio = self.audio_moments.front().map(AudioMoment::time);
        let video = self
            .video_moments
            .front()
            .map(|m| (m.time(), MomentKind::Video));
        let boundary = (!self.is_idle()).then(|| (self.boundary(), MomentKind::Boundary));
        let transcripts = self
            .transcript_moments
            .front()
            .map(|transcript| (transcript.known_at, MomentKind::Transcript));
        [audio, transcripts, boundary, video]
            .into_iter()
            .flatten()
            .min()
    }

    /// Time of the next boundary of the grid.
    fn boundary(&self) -> MediaTime {
        MediaTime::from_nanos(self.next_hop.saturating_mul(self.settings.hop_nanos))
    }

    /// Whether no clip can be due at the next boundary of the grid, unless earlier moments add
    /// data.
    fn is_idle(&self) -> bool {
        self.presences.is_empty()
            && self
                .voice
                .as_ref()
                .is_none_or(|voice| !self.has_new_speech(voice) && !self.has_new_transcript(voice))
    }

    /// Processes the moment of this `kind` at `time`. `now` is the current time of the driving
    /// clock.
    fn take(&mut self, time: MediaTime, kind: MomentKind, now: MediaTime) {
        self.pass_idle_boundaries(time);
        match kind {
            MomentKind::Boundary => {
                self.next_hop += 1;
                self.cut_at(time, now);
            }
            MomentKind::Audio | MomentKind::AudioEnd => match self.audio_moments.pop_front() {
                Some(AudioMoment::Window(_, _, activity)) => self.take_activity(activity, time),
                Some(AudioMoment::End(end)) => self.end_audio(end, now),
                None => {}
            },
            MomentKind::Video => match self.video_moments.pop_front() {
                Some(VideoMoment::Frame(frame, frame_nanos)) => {
                    self.frame_nanos = frame_nanos;
                    self.take_frame(frame, now);
                }
                Some(VideoMoment::End(end)) => self.end_video(end, now),
                None => {}
            },
            MomentKind::Transcript => {
                if let Some(transcript) = self.transcript_moments.pop_front() {
                    self.take_transcript(transcript);
                }
            }
        }
        self.forget_before(time);
    }

    /// If no clip can be due, skips all boundaries before `time`.
    fn pass_idle_boundaries(&mut self, time: MediaTime) {
        if self.is_idle() {
            let hop = self.settings.hop_nanos;
            self.next_hop = self
                .next_hop
                .max(time.nanos().div_euclid(hop) + i64::from(time.nanos().rem_euclid(hop) > 0));
        }
    }

    /// Processes a frame: appearances of subjects, then faces, then losses and merges.
    fn take_frame(&mut self, frame: FramedFaces, now: MediaTime) {
        let time = frame.time;
        self.last_frame = Some(time);
        let mut changes = frame.changes;
        changes.sort_by_key(|change| change.subject);
        let ends = |subject: SubjectId, changes: &[SubjectChange]| {
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
            if !ends(face.subject, &changes) {
                self.appear(face.subject, time, now);
                self.observe(face);
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

    /// Cuts the clips that end at the boundary `time`.
    fn cut_at(&mut self, time: MediaTime, now: MediaTime) {
        let window = window_before(time, self.settings.length_nanos);
        if !self.presences.is_empty() && self.last_frame.is_none_or(|last| last < window.start) {
            // No frame for a whole window: no subject is visible any more.
            self.all_depart();
            // The speech before the previous boundary is in the clips of that boundary.
            self.note_absence(time.plus_nanos(-self.settings.hop_nanos));
        }
        let due: Vec<_> = self
            .presences
            .iter()
            .filter(|(_, p)| {
                p.clipped_until.is_none_or(|until| until < time)
                    && 2 * time.nanos_since(p.since) >= self.settings.hop_nanos
            })
            .map(|(subject, _)| *subject)
            .collect();
        self.cut_clips(&due, time, time, now);
        if let Some(mut voice) = self.voice.take() {
            if self.has_new_speech(&voice) || self.has_new_transcript(&voice) {
                let span = Span::new(voice.since.max(window.start).min(time), time);
                let enough = self.sound.speech_nanos(span) >= self.settings.min_speech_nanos
                    || self.off_camera_text(span).is_ok();
                if enough && 2 * time.nanos_since(voice.since) >= self.settings.hop_nanos {
                    self.ready
                        .push_back(Aligned::Clip(self.voice_clip(span, now)));
                    voice.clipped_until = Some(time);
                } else if self.last_speech <= window.start
                    && !self.transcripts.has_off_camera_after(time)
                {
                    // The speech is a short burst that has left the window, or the text precedes
                    // the loss of the face. No clip will contain it.
                    voice.clipped_until = Some(time);
                }
            }
            self.voice = Some(voice);
        }
    }

    /// Drops data that no later clip needs. Clips reach back at most a window and two hops before
    /// `time`; lip motion and voice activity are kept for [`KEPT_NANOS`].
    fn forget_before(&mut self, time: MediaTime) {
        let clips_from = time.plus_nanos(-self.settings.length_nanos - 2 * self.settings.hop_nanos);
        let lips_from = clips_from.min(time.plus_nanos(-KEPT_NANOS));
        self.sound.forget(clips_from, lips_from);
        self.transcripts.forget(clips_from);
        for presence in self.presences.values_mut() {
            presence.forget(clips_from, lips_from);
        }
        self.departed.retain(|_, presence| {
            presence.forget(clips_from, lips_from);
            presence.lips().next().is_some()
        });
    }

    /// Number of items in all queues and histories; tests check that it is bounded.
    #[cfg(test)]
    fn held(&self) -> usize {
        self.video_moments.len()
            + self.audio_moments.len()
            + self.transcript_moments.len()
            + self.ready.len()
            + self.sound.held()
            + self.transcripts.held()
            + self
                .presences
                .values()
                .chain(self.departed.values())
                .map(Presence::held)
                .sum::<usize>()
    }
}

/// Whether this phase ends the presence of a subject.
fn is_end(phase: SubjectPhase) -> bool {
    matches!(phase, SubjectPhase::Lost | SubjectPhase::Merged)
}
