//! The settings of the stages before the encoders, without graphs.

use super::{Sections, SetFiles, headless};
use crate::manifest::{
    AudioPreprocessing, EncoderEntry, EncoderKind, FacePreprocessing, WindowRule,
};
use crate::modality::Modality;

impl SetFiles {
    /// Windows and preprocessing of a face and a voice alone: the settings of the stages before the
    /// encoders. It opens no graph.
    pub fn of_stages(
        window: WindowRule,
        face: FacePreprocessing,
        audio: AudioPreprocessing,
    ) -> SetFiles {
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
        SetFiles {
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
    fn stages_need_windows_and_preprocessing_but_no_graph() {
        let bundle = SetFiles::read(&[project("models/default")]).unwrap();
        let rules = bundle.rules();
        let (face, audio) = (rules.face.clone().unwrap(), rules.audio.clone().unwrap());
        let stages = SetFiles::of_stages(rules.window, face, audio);
        assert!(stages.reads(Modality::Face) && stages.reads(Modality::Voice));
        assert!(!stages.reads(Modality::Text));
        assert_eq!(stages.rules().window, rules.window);
        assert_eq!(stages.rules().face, rules.face);
        assert_eq!(stages.rules().audio, rules.audio);
    }
}
