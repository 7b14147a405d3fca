//! Downmix of several channels to mono, with detection of phase cancellation. Channels cancel in
//! the mix if one of them is inverted, for example; the best single channel then replaces the mix.

use super::tracks::ChannelSelection;

/// Number of analysed blocks per second.
const BLOCKS_HZ: u32 = 50;
/// Mean square of a channel (samples from -1 to 1) above which a block is audible: -60 dB.
const AUDIBLE: f64 = 1e-6;
/// The channels cancel if the energy of their mix is below this share of the energy of a mix of
/// uncorrelated channels: 9 dB less.
const CANCELLED: f64 = 0.125;
/// The mix masks the loudest channel if its energy is below this share of that channel's energy: 12
/// dB less.
const MASKED: f64 = 1.0 / 16.0;
/// Number of audible blocks with cancellation before a single channel is selected: 0.2 s.
const BLOCKS_TO_SELECT: u32 = 10;
/// Number of blocks within which [`BLOCKS_TO_SELECT`] blocks must show cancellation: 0.4 s. A
/// look-ahead of this length has the decision in time.
const SELECT_WITHIN_BLOCKS: u64 = 20;
/// Consecutive audible blocks without cancellation before the mix is selected again: 2 s.
const BLOCKS_TO_RESTORE: u32 = 100;

/// Reduction of several channels to one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Downmix {
    /// The mean of all channels.
    All,
    /// This channel alone, counted from 0.
    Channel(usize),
}

impl Downmix {
    /// The downmix at the start. `None`: the selected channel does not exist.
    pub fn initial(selection: ChannelSelection, channels: usize) -> Option<Downmix> {
        match selection {
            ChannelSelection::Auto | ChannelSelection::Mix => Some(Downmix::All),
            ChannelSelection::Number(number) => {
                let channel = number.get() as usize - 1;
                (channel < channels).then_some(Downmix::Channel(channel))
            }
        }
    }

    /// Weight of each of the `channels` channels in the mono signal.
    pub fn weights(self, channels: usize) -> Vec<f32> {
        match self {
            Downmix::All => vec![1.0 / channels.max(1) as f32; channels],
            Downmix::Channel(selected) => (0..channels)
                .map(|channel| f32::from(u8::from(channel == selected)))
                .collect(),
        }
    }
}

/// A change of the downmix during a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Switch {
    /// First sample frame with the new downmix, counted from the start of the stream.
    pub frame: u64,
    pub downmix: Downmix,
}

/// Detects phase cancellation block by block. The result depends on the samples alone, not on how
/// they are packed into buffers.
#[derive(Clone, Debug)]
pub(super) struct CancellationDetector {
    /// Number of sample frames in a block.
    block_frames: u32,
    downmix: Downmix,
    /// Sum of squares of each channel in the current block.
    squares: Vec<f64>,
    /// Sum of squares of the mean of the channels in the current block.
    mixed: f64,
    /// Number of sample frames in the current block so far.
    frames: u32,
    /// Number of completed blocks.
    blocks: u64,
    /// Number of consecutive audible blocks that call for a change.
    run: u32,
    /// Index of the first block in the current run of blocks that call for a change.
    run_began: u64,
    /// Sum of squares of each channel over the current run of blocks that call for a change.
    run_energy: Vec<f64>,
}

impl CancellationDetector {
    pub fn new(channels: usize, rate_hz: u32) -> CancellationDetector {
        CancellationDetector {
            block_frames: (rate_hz / BLOCKS_HZ).max(1),
            downmix: Downmix::All,
            squares: vec![0.0; channels],
            mixed: 0.0,
            frames: 0,
            blocks: 0,
            run: 0,
            run_began: 0,
            run_energy: vec![0.0; channels],
        }
    }

    /// Adds one sample of each channel, -1 to 1. Returns the change of the downmix if the sample
    /// decides one. It does not allocate, so that a sound callback can call it.
    pub fn take(&mut self, frame: impl Iterator<Item = f32>) -> Option<Switch> {
        let mut sum = 0.0;
        for (square, sample) in self.squares.iter_mut().zip(frame) {
            let sample = if sample.is_finite() {
                f64::from(sample)
            } else {
                0.0
            };
            *square += sample * sample;
            sum += sample;
        }
        let mean = sum / self.squares.len().max(1) as f64;
        self.mixed += mean * mean;
        self.frames += 1;
        (self.frames == self.block_frames)
            .then(|| self.end_block())
            .flatten()
    }

    /// Evaluates a complete block, and returns the change that it decides.
    fn end_block(&mut self) -> Option<Switch> {
        let count = f64::from(self.block_frames);
        let channels = self.squares.len() as f64;
        let loudest = self.squares.iter().copied().fold(0.0, f64::max) / count;
        let unrelated = self.squares.iter().sum::<f64>() / count / (channels * channels);
        let mixed = self.mixed / count;
        let is_lost = mixed < CANCELLED * unrelated || mixed < MASKED * loudest;
        let block = self.blocks;
        self.blocks += 1;
        let mut switch = None;
        if loudest > AUDIBLE {
            let (calls_for_change, needed) = match self.downmix {
                Downmix::All => (is_lost, BLOCKS_TO_SELECT),
                Downmix::Channel(_) => (!is_lost, BLOCKS_TO_RESTORE),
            };
            if !calls_for_change {
                self.run = 0;
            } else {
                let is_stale =
                    self.downmix == Downmix::All && block - self.run_began > SELECT_WITHIN_BLOCKS;
                if self.run == 0 || is_stale {
                    (self.run, self.run_began) = (0, block);
                    self.run_energy.fill(0.0);
                }
                self.run += 1;
                for (energy, square) in self.run_energy.iter_mut().zip(&self.squares) {
                    *energy += square;
                }
                if self.run == needed {
                    switch = Some(self.change(block));
                }
            }
        }
        self.squares.fill(0.0);
        (self.mixed, self.frames) = (0.0, 0);
        switch
    }

    /// Decides the change at `block`: to the best channel from the start of the run on, or back to
    /// the mix from the next block on.
    fn change(&mut self, block: u64) -> Switch {
        let (downmix, from) = match self.downmix {
            Downmix::All => (Downmix::Channel(self.best()), self.run_began),
            Downmix::Channel(_) => (Downmix::All, block + 1),
        };
        (self.downmix, self.run) = (downmix, 0);
        Switch {
            frame: from * u64::from(self.block_frames),
            downmix,
        }
    }

    /// Index of the channel with the most energy in the current run of blocks. A later channel
    /// needs more than 1.25 times the energy of an earlier one.
    fn best(&self) -> usize {
        let mut best = 0;
        for (channel, energy) in self.run_energy.iter().enumerate() {
            if *energy > 1.25 * self.run_energy[best] {
                best = channel;
            }
        }
        best
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: u32 = 16_000;

    /// A sine tone of amplitude `level`.
    fn tone(frame: u64, hz: f64, level: f32) -> f32 {
        (frame as f64 * hz / f64::from(RATE) * std::f64::consts::TAU).sin() as f32 * level
    }

    /// The changes of the downmix over `seconds` of the signal `frame`.
    fn switches_over<const N: usize>(seconds: u64, frame: impl Fn(u64) -> [f32; N]) -> Vec<Switch> {
        let mut detector = CancellationDetector::new(N, RATE);
        (0..seconds * u64::from(RATE))
            .filter_map(|at| detector.take(frame(at).into_iter()))
            .collect()
    }

    fn channel(frame: u64, channel: usize) -> Vec<Switch> {
        vec![Switch {
            frame,
            downmix: Downmix::Channel(channel),
        }]
    }

    #[test]
    fn an_inverted_channel_selects_the_louder_one_from_its_onset() {
        let second = u64::from(RATE);
        let loud = |at: u64, level: f32| {
            if at < second {
                0.0
            } else {
                tone(at, 220.0, level)
            }
        };
        assert_eq!(
            switches_over(3, |at| [loud(at, 0.2), -loud(at, 0.2)]),
            channel(second, 0)
        );
        assert_eq!(
            switches_over(3, |at| [loud(at, 0.2), -loud(at, 0.25)]),
            channel(second, 1)
        );
    }

    #[test]
    fn ordinary_stereo_and_a_dead_channel_stay_mixed() {
        assert!(switches_over(3, |at| [tone(at, 220.0, 0.2), tone(at, 220.0, 0.1)]).is_empty());
        assert!(switches_over(3, |at| [tone(at, 220.0, 0.2), 0.0]).is_empty());
        // Uncorrelated signals, as from two microphones.
        assert!(switches_over(3, |at| [tone(at, 220.0, 0.2), tone(at, 370.0, 0.2)]).is_empty());
        // Inverted, but below the audible threshold, as the noise of two inputs.
        assert!(switches_over(3, |at| [tone(at, 220.0, 5e-4), -tone(at, 220.0, 5e-4)]).is_empty());
    }

    #[test]
    fn the_only_live_channel_of_an_array_is_selected() {
        let array = |at| [0.0, 0.0, tone(at, 220.0, 0.2), 0.0, 0.0, 0.0, 0.0, 0.0];
        assert_eq!(switches_over(1, array), channel(0, 2));
    }

    #[test]
    fn a_short_cancellation_changes_nothing_and_a_long_recovery_restores_the_mix() {
        let second = u64::from(RATE);
        let flips = |at: u64| {
            let sign = if at % second < second / 10 { -1.0 } else { 1.0 };
            [tone(at, 220.0, 0.2), sign * tone(at, 220.0, 0.2)]
        };
        assert!(switches_over(5, flips).is_empty());
        let heals = |at: u64| {
            let sign = if at < second { -1.0 } else { 1.0 };
            [tone(at, 220.0, 0.2), sign * tone(at, 220.0, 0.2)]
        };
        let switches = switches_over(5, heals);
        assert_eq!(switches.len(), 2);
        assert_eq!(switches[1].downmix, Downmix::All);
        assert_eq!(switches[1].frame, 3 * second);
    }

    #[test]
    fn a_missing_channel_is_refused() {
        let number = |n| ChannelSelection::Number(std::num::NonZeroU32::new(n).unwrap());
        assert_eq!(Downmix::initial(number(2), 2), Some(Downmix::Channel(1)));
        assert_eq!(Downmix::initial(number(3), 2), None);
        assert_eq!(Downmix::Channel(1).weights(3), [0.0, 1.0, 0.0]);
        assert_eq!(Downmix::All.weights(2), [0.5, 0.5]);
    }
}
