//! Encoder sets without graphs, for the stages before the encoders (tracking, crops, speech).

use super::{EncoderSetFiles, Sections, headless};
use crate::manifest::{
    AudioPreprocessing, EncoderEntry, EncoderKind, FacePreprocessing, WindowRule,
};
use crate::modality::Modality;

impl EncoderSetFiles {
    /// An encoder set with window and preprocessing of face and voice, but without graph files. It
    /// has the settings of the stages before the encoders, and cannot compute embeddings.
    pub fn without_encoders(
        window: WindowRule,
        face: FacePreprocessing,
        audio: AudioPreprocessing,
    ) -> EncoderSetFiles {
        let entry = |modality: Modality, kind, input| EncoderEntry {
            name: modality.name().into(),
            modality,
            kind,
            file: String::new(),
            sha256: String::new(),
            int8: None,
            input,
            dim: 1,
            classes: Vec::new(),
            rate_hz: None,
            normalise: None,
            frozen: false,
            source: String::new(),
            licence: String::new(),
        };
        let faces = vec![face.channels, face.size, face.size];
        let encoders = vec![
            entry(Modality::Face, EncoderKind::Frame, faces),
            entry(Modality::Voice, EncoderKind::Window, vec![1, audio.mels, 0]),
        ];
        EncoderSetFiles {
            rules: headless(Sections {
                window,
                face: Some(face),
                audio: Some(audio),
                text: None,
                encoders,
            }),
            folders: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::project;

    #[test]
    fn a_set_without_graphs_has_the_window_and_preprocessing_of_face_and_voice() {
        let bundle = EncoderSetFiles::read(&[project("models/default")]).unwrap();
        let rules = bundle.manifest();
        let (face, audio) = (rules.face.clone().unwrap(), rules.audio.clone().unwrap());
        let stages = EncoderSetFiles::without_encoders(rules.window, face, audio);
        assert!(stages.has_encoder_of(Modality::Face) && stages.has_encoder_of(Modality::Voice));
        assert!(!stages.has_encoder_of(Modality::Text));
        assert_eq!(stages.manifest().window, rules.window);
        assert_eq!(stages.manifest().face, rules.face);
        assert_eq!(stages.manifest().audio, rules.audio);
    }
}
