//! IMA (DVI) and Microsoft ADPCM, block by block: 4 bits a sample.
//!
//! Source: IMA Digital Audio Focus and Technical Working Groups, "Recommended Practices", 1992;
//! Microsoft, "Multimedia Data Standards Update", 1994.

/// Step sizes of IMA ADPCM.
const STEPS: [i32; 89] = [
    7, 8, 9, 10, 11, 12, 13, 14, 16, 17, 19, 21, 23, 25, 28, 31, 34, 37, 41, 45, 50, 55, 60, 66,
    73, 80, 88, 97, 107, 118, 130, 143, 157, 173, 190, 209, 230, 253, 279, 307, 337, 371, 408, 449,
    494, 544, 598, 658, 724, 796, 876, 963, 1060, 1166, 1282, 1411, 1552, 1707, 1878, 2066, 2272,
    2499, 2749, 3024, 3327, 3660, 4026, 4428, 4871, 5358, 5894, 6484, 7132, 7845, 8630, 9493,
    10_442, 11_487, 12_635, 13_899, 15_289, 16_818, 18_500, 20_350, 22_385, 24_623, 27_086, 29_794,
    32_767,
];
/// Change of the index into [`STEPS`], by the magnitude of an IMA code.
const STEP_CHANGES: [i32; 8] = [-1, -1, -1, -1, 2, 4, 6, 8];
/// Factor of the scale of Microsoft ADPCM by the last code, in 1/256.
const SCALES: [i32; 16] = [
    230, 230, 230, 230, 307, 409, 512, 614, 768, 614, 512, 409, 307, 230, 230, 230,
];
/// The pairs of predictor coefficients that every Microsoft ADPCM file has, in 1/256.
pub(super) const DEFAULT_PAIRS: [[i32; 2]; 7] = [
    [256, 0],
    [512, -256],
    [0, 0],
    [192, 64],
    [240, 0],
    [460, -208],
    [392, -232],
];

/// Number of sample frames in an IMA block of `bytes` bytes: one in the header, and eight per
/// 32-bit word of each channel.
pub(super) fn ima_frames(bytes: usize, channels: usize) -> usize {
    let head = 4 * channels;
    if channels == 0 || bytes < head {
        return 0;
    }
    1 + (bytes - head) / head * 8
}

/// Decodes one IMA block to interleaved samples. A short block is decoded up to its last complete
/// word.
pub(super) fn decode_ima_block(block: &[u8], channels: usize) -> Vec<i16> {
    let frames = ima_frames(block.len(), channels);
    let mut samples = vec![0i16; frames * channels];
    if frames == 0 {
        return samples;
    }
    for channel in 0..channels {
        let head = &block[4 * channel..];
        let mut value = i32::from(i16::from_le_bytes([head[0], head[1]]));
        let mut index = usize::from(head[2]).min(STEPS.len() - 1);
        samples[channel] = value as i16;
        for frame in 1..frames {
            let (word, nibble) = ((frame - 1) / 8, (frame - 1) % 8);
            let byte = block[4 * channels * (1 + word) + 4 * channel + nibble / 2];
            let code = if nibble % 2 == 0 {
                byte & 0x0f
            } else {
                byte >> 4
            };
            let step = STEPS[index];
            // The change is one product. Early decoders summed shifted parts, each of which was
            // rounded.
            let change = ((2 * i32::from(code & 7) + 1) * step) >> 3;
            value += if code & 8 == 0 { change } else { -change };
            value = value.clamp(i32::from(i16::MIN), i32::from(i16::MAX));
            let next = index as i32 + STEP_CHANGES[usize::from(code & 7)];
            index = next.clamp(0, STEPS.len() as i32 - 1) as usize;
            samples[frame * channels + channel] = value as i16;
        }
    }
    samples
}

/// Number of sample frames in a Microsoft block of `bytes` bytes: two in the header, and two per
/// byte (one per byte with two channels).
pub(super) fn microsoft_frames(bytes: usize, channels: usize) -> usize {
    let head = 7 * channels;
    if !(1..=2).contains(&channels) || bytes < head {
        return 0;
    }
    2 + (bytes - head) * 2 / channels
}

/// Decodes one Microsoft block of one or two channels to interleaved samples. `pairs`: the pairs of
/// predictor coefficients from which the block selects.
pub(super) fn decode_microsoft_block(
    block: &[u8],
    channels: usize,
    pairs: &[[i32; 2]],
) -> Vec<i16> {
    let frames = microsoft_frames(block.len(), channels);
    if frames == 0 {
        return Vec::new();
    }
    let word = |at: usize| i32::from(i16::from_le_bytes([block[at], block[at + 1]]));
    let mut samples = Vec::with_capacity(frames * channels);
    let (mut newest, mut older, mut scales, mut weights) = ([0; 2], [0; 2], [0; 2], [[0; 2]; 2]);
    for channel in 0..channels {
        weights[channel] = pairs
            .get(usize::from(block[channel]))
            .copied()
            .unwrap_or([0; 2]);
        scales[channel] = word(channels + 2 * channel);
        newest[channel] = word(3 * channels + 2 * channel);
        older[channel] = word(5 * channels + 2 * channel);
    }
    samples.extend(older[..channels].iter().map(|value| *value as i16));
    samples.extend(newest[..channels].iter().map(|value| *value as i16));
    let codes = block[7 * channels..]
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 0x0f]);
    for (index, code) in codes.enumerate() {
        let channel = index % channels;
        let signed = i32::from(code) - if code & 8 == 0 { 0 } else { 16 };
        let [first, second] = weights[channel];
        let weighted = newest[channel]
            .wrapping_mul(first)
            .wrapping_add(older[channel].wrapping_mul(second));
        let value = (weighted >> 8).saturating_add(signed.saturating_mul(scales[channel]));
        let value = value.clamp(i32::from(i16::MIN), i32::from(i16::MAX));
        older[channel] = std::mem::replace(&mut newest[channel], value);
        let scale = SCALES[usize::from(code)].saturating_mul(scales[channel]) >> 8;
        scales[channel] = scale.max(16);
        samples.push(value as i16);
    }
    samples.truncate(frames * channels);
    samples
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_ima_block_is_decoded_code_by_code() {
        // One channel with the start value 100 and step 7: up by 15/8 of the step, then by 1/8 of
        // step 16.
        let samples = decode_ima_block(&[100, 0, 0, 0, 0x07, 0x08, 0, 0], 1);
        assert_eq!(samples[..3], [100, 113, 115]);
        assert_eq!(samples.len(), 9);
    }

    #[test]
    fn a_microsoft_block_decodes_to_its_header_samples_and_codes() {
        // The header selects pair 0 (repeats the newest sample), scale 16, newest 50 and older 40.
        // The codes are +1 and -1.
        let samples = decode_microsoft_block(&[0, 16, 0, 50, 0, 40, 0, 0x1f], 1, &DEFAULT_PAIRS);
        assert_eq!(samples, [40, 50, 66, 50]);
    }

    proptest! {
        /// For any bytes, the number of samples follows from the size of the block.
        #[test]
        fn any_bytes_are_decoded(
            block in prop::collection::vec(any::<u8>(), 0..300),
            channels in 1usize..9,
        ) {
            let samples = decode_ima_block(&block, channels);
            prop_assert_eq!(samples.len(), ima_frames(block.len(), channels) * channels);
            let samples = decode_microsoft_block(&block, channels, &DEFAULT_PAIRS);
            prop_assert_eq!(samples.len(), microsoft_frames(block.len(), channels) * channels);
        }
    }
}
