//! The codings of sound in WAV, and their decoding to samples that GStreamer converts.

use super::adpcm;

/// A coding of sound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Coding {
    /// Uncoded samples: GStreamer's name of the sample format, and bytes per sample.
    Raw(&'static str, usize),
    ALaw,
    MuLaw,
    /// IMA ADPCM (DVI).
    Ima,
    /// Microsoft ADPCM with its pairs of predictor coefficients.
    Microsoft(Vec<[i32; 2]>),
}

impl Coding {
    /// Name of the coding, for the log.
    pub fn name(&self) -> &'static str {
        match self {
            Coding::Raw(name, _) => name,
            Coding::ALaw => "A-law",
            Coding::MuLaw => "mu-law",
            Coding::Ima => "IMA ADPCM",
            Coding::Microsoft(_) => "Microsoft ADPCM",
        }
    }

    /// GStreamer's name for the format that [`Coding::decode`] returns.
    pub fn format(&self) -> &'static str {
        match self {
            Coding::Raw(name, _) => name,
            _ => "S16LE",
        }
    }

    /// Bytes of one sample of one channel; `None` where samples are coded in blocks.
    pub fn sample_bytes(&self) -> Option<usize> {
        match self {
            Coding::Raw(_, bytes) => Some(*bytes),
            Coding::ALaw | Coding::MuLaw => Some(1),
            Coding::Ima | Coding::Microsoft(_) => None,
        }
    }

    /// Sample frames in a block of `bytes` bytes; `None` if it holds none.
    pub fn frames_per_block(&self, bytes: usize, channels: usize) -> Option<u64> {
        let frames = match self {
            Coding::Ima => adpcm::ima_frames(bytes, channels),
            Coding::Microsoft(_) => adpcm::microsoft_frames(bytes, channels),
            _ => 1,
        };
        (frames > 0).then_some(frames as u64)
    }

    /// Decodes `coded` to interleaved samples. Returns their bytes, and the number of bytes per
    /// sample. `coded` holds whole blocks of `block_bytes` bytes; only the last one may be short.
    pub fn decode(&self, coded: Vec<u8>, block_bytes: usize, channels: usize) -> (Vec<u8>, usize) {
        let samples: Vec<i16> = match self {
            Coding::Raw(_, bytes) => return (coded, *bytes),
            Coding::ALaw => coded.into_iter().map(a_law).collect(),
            Coding::MuLaw => coded.into_iter().map(mu_law).collect(),
            Coding::Ima => {
                let blocks = coded.chunks(block_bytes.max(1));
                blocks
                    .flat_map(|block| adpcm::decode_ima_block(block, channels))
                    .collect()
            }
            Coding::Microsoft(pairs) => {
                let blocks = coded.chunks(block_bytes.max(1));
                blocks
                    .flat_map(|block| adpcm::decode_microsoft_block(block, channels, pairs))
                    .collect()
            }
        };
        (samples.into_iter().flat_map(i16::to_le_bytes).collect(), 2)
    }
}

/// Decodes an A-law code (ITU-T G.711) to a 16-bit sample.
fn a_law(code: u8) -> i16 {
    let code = code ^ 0x55;
    let (mantissa, segment) = (i16::from(code & 0x0f) << 4, (code >> 4) & 7);
    let magnitude = match segment {
        0 => mantissa + 8,
        segment => (mantissa + 0x108) << (segment - 1),
    };
    if code & 0x80 == 0 {
        -magnitude
    } else {
        magnitude
    }
}

/// Decodes a mu-law code (ITU-T G.711) to a 16-bit sample.
fn mu_law(code: u8) -> i16 {
    let code = !code;
    let magnitude = (((i16::from(code & 0x0f)) << 3) + 0x84) << ((code >> 4) & 7);
    if code & 0x80 == 0 {
        magnitude - 0x84
    } else {
        0x84 - magnitude
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The expected values are from the tables of G.711, scaled to 16 bits.
    #[test]
    fn a_law_and_mu_law_codes_decode_to_the_values_of_g711() {
        assert_eq!(
            [0xd5, 0x55, 0xaa, 0x2a].map(a_law),
            [8, -8, 32_256, -32_256]
        );
        assert_eq!(
            [0xff, 0x7f, 0x80, 0x00].map(mu_law),
            [0, 0, 32_124, -32_124]
        );
        assert_eq!((a_law(0xd4), mu_law(0xfe)), (24, 8));
    }
}
