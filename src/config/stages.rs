//! Derives the settings of the face and speech stages from the configuration. The daemon and the
//! trainer use the same settings.

use super::Config;
use crate::face::{DetectorSettings, FaceSettings};
use crate::speech::TurnRule;

/// Width in pixels of the picture to which `face.min_face_px` refers. The limit scales with the
/// width, because a larger picture of the same scene shows the same faces with more pixels.
const MIN_FACE_PICTURE_PX: f32 = 640.0;

impl Config {
    /// Settings of face detection and tracking: `face.detect_interval_ms`, `face.max_subjects` and
    /// `face.lost_after_ms`.
    pub fn face_settings(&self) -> FaceSettings {
        FaceSettings {
            detect_interval: self.face.detect_interval,
            max_subjects: self.face.max_subjects,
            lost_after: self.face.lost_after,
        }
    }

    /// Settings of the face detector: `face.min_face_px` as a share of the picture's width, the
    /// defaults otherwise.
    pub fn detector_settings(&self) -> DetectorSettings {
        DetectorSettings {
            min_face_share: self.face.min_face_px as f32 / MIN_FACE_PICTURE_PX,
            ..DetectorSettings::default()
        }
    }

    /// Thresholds and durations that divide speech into turns: `speech.threshold` and
    /// `speech.min_silence_ms`, the defaults otherwise.
    pub fn turn_rule(&self) -> TurnRule {
        let default = TurnRule::default();
        let start_probability = self.speech.threshold as f32;
        // Hysteresis: speech ends at a lower probability than it starts. The difference is that of
        // the defaults.
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
