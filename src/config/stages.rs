//! Settings of the stages, derived from the configuration. The daemon and the trainer use the same.

use super::Config;
use crate::face::{DetectorSettings, FaceSettings};
use crate::speech::TurnRule;

/// Width of the picture that `face.min_face_px` refers to, in pixels. A larger picture of the same
/// scene shows the same faces.
const MIN_FACE_PICTURE_PX: f32 = 640.0;

impl Config {
    /// Settings of the face stage.
    pub fn face_settings(&self) -> FaceSettings {
        FaceSettings {
            detect_interval: self.face.detect_interval,
            max_subjects: self.face.max_subjects,
            lost_after: self.face.lost_after,
        }
    }

    /// Settings of the face detector.
    pub fn detector_settings(&self) -> DetectorSettings {
        DetectorSettings {
            min_face_share: self.face.min_face_px as f32 / MIN_FACE_PICTURE_PX,
            ..DetectorSettings::default()
        }
    }

    /// Thresholds and durations of speech turns.
    pub fn turn_rule(&self) -> TurnRule {
        let default = TurnRule::default();
        let start_probability = self.speech.threshold as f32;
        // Speech continues a little below the threshold of its start.
        let end_probability =
            (start_probability - (default.start_probability - default.end_probability)).max(0.01);
        let min_silence_nanos =
            i64::try_from(self.speech.min_silence.as_nanos()).unwrap_or(i64::MAX);
        TurnRule {
            start_probability,
            end_probability,
            min_silence_nanos,
            ..default
        }
    }
}
