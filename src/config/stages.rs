//! Settings of the stages, derived from the configuration. The daemon and the trainer use the same.

use super::Config;
use crate::face::{DetectorSettings, FaceSettings};
use crate::speech::TurnRule;

/// `face.min_face_px` counts in pixels of a picture of this many columns: a larger picture of the
/// same scene shows the same faces.
const MIN_FACE_PICTURE_PX: f32 = 640.0;

impl Config {
    pub fn face_settings(&self) -> FaceSettings {
        FaceSettings {
            detect_interval: self.face.detect_interval,
            max_subjects: self.face.max_subjects,
            lost_after: self.face.lost_after,
        }
    }

    pub fn detector_settings(&self) -> DetectorSettings {
        DetectorSettings {
            min_face_share: self.face.min_face_px as f32 / MIN_FACE_PICTURE_PX,
            ..DetectorSettings::default()
        }
    }

    pub fn turn_rule(&self) -> TurnRule {
        let usual = TurnRule::default();
        let start_probability = self.speech.threshold as f32;
        // Speech that has begun goes on a little under the threshold that began it.
        let end_probability =
            (start_probability - (usual.start_probability - usual.end_probability)).max(0.01);
        let min_silence_nanos =
            i64::try_from(self.speech.min_silence.as_nanos()).unwrap_or(i64::MAX);
        TurnRule {
            start_probability,
            end_probability,
            min_silence_nanos,
            ..usual
        }
    }
}
