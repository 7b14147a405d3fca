//! Learning-rate schedules: constant, the ConCluGen authors' schedule per epoch, and a schedule per
//! step.

use std::f64::consts::PI;

use serde::{Deserialize, Serialize};

/// A learning-rate schedule: the rate as a function of training progress alone, so that a resumed
/// run needs no other state. The base rate is the recipe's `learning_rate`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum RateSchedule {
    /// The base rate at all times.
    Constant,
    /// Per epoch: linear warm-up, then a cosine that restarts (`src/train/method.md` section d;
    /// PyTorch's `SequentialLR` of `LinearLR` and `CosineAnnealingWarmRestarts`, or with `decay`
    /// the authors' `CosineAnnealingWarmRestartsExpDecay`).
    WarmRestarts(WarmRestarts),
    /// Per step: a linear warm-up, then one cosine to zero at the last step.
    WarmupCosine {
        /// Share of all steps that is warm-up, 0..1.
        warmup_share: f64,
    },
}

/// Settings of a schedule per epoch with a linear warm-up and a cosine that restarts. The defaults
/// are those of the ConCluGen authors (`configs/testing.yaml`).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WarmRestarts {
    /// Number of warm-up epochs.
    pub warmup_epochs: usize,
    /// Rate in epoch 0 as a share of the base rate, 0..1.
    pub warmup_start: f64,
    /// Number of epochs from the end of the warm-up to the first restart (`T_0`).
    pub period_epochs: usize,
    /// Factor from the length of one period between restarts to that of the next (`T_mult`).
    pub period_factor: usize,
    /// The learning rate at the end of each cosine (`eta_min`), not relative to the base rate.
    pub floor: f64,
    /// Factor by which each restart multiplies the base rate, down to `floor` (`gamma`): 1 in the
    /// authors' `testing.yaml`, 0.75 in their `defaults.yaml`.
    pub decay: f64,
}

impl Default for WarmRestarts {
    fn default() -> Self {
        WarmRestarts {
            warmup_epochs: 5,
            warmup_start: 0.1,
            period_epochs: 20,
            period_factor: 2,
            floor: 1e-6,
            decay: 1.0,
        }
    }
}

impl WarmRestarts {
    /// The learning rate in `epoch`, counted from 0. `base`: the base rate.
    pub fn rate(&self, base: f64, epoch: usize) -> f64 {
        let Some(mut since) = epoch.checked_sub(self.warmup_epochs) else {
            return base
                * (self.warmup_start
                    + (1.0 - self.warmup_start) * epoch as f64 / self.warmup_epochs as f64);
        };
        let (mut period, mut base) = (self.period_epochs.max(1), base);
        while since >= period {
            since -= period;
            period *= self.period_factor.max(1);
            if self.decay != 1.0 {
                base = (base * self.decay).max(self.floor);
            }
        }
        self.floor + (base - self.floor) * (1.0 + (PI * since as f64 / period as f64).cos()) / 2.0
    }
}

impl RateSchedule {
    /// The learning rate of `step` in `epoch`, both counted from 0; `step` counts over all epochs.
    /// `steps`: number of steps of the whole training; `base`: the base rate.
    pub fn rate(&self, base: f64, epoch: usize, step: usize, steps: usize) -> f64 {
        match self {
            RateSchedule::Constant => base,
            RateSchedule::WarmRestarts(restarts) => restarts.rate(base, epoch),
            RateSchedule::WarmupCosine { warmup_share } => {
                let (done, warmup) = (step as f64 + 1.0, warmup_share * steps as f64);
                if done < warmup {
                    return base * done / warmup;
                }
                base * (0.5
                    + 0.5
                        * (PI * ((done - warmup) / (steps as f64 - warmup).max(1.0)).min(1.0))
                            .cos())
            }
        }
    }

    /// Every invalid setting, one sentence each.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        match self {
            RateSchedule::Constant => {}
            RateSchedule::WarmRestarts(r) => {
                if !(0.0..=1.0).contains(&r.warmup_start) {
                    faults.push(format!(
                        "schedule.warmup_start is {}, permitted are 0 to 1",
                        r.warmup_start
                    ));
                }
                if r.period_epochs == 0 || r.period_factor == 0 {
                    faults.push(
                        "schedule.period_epochs and schedule.period_factor must be at least 1"
                            .into(),
                    );
                }
                if !(r.floor >= 0.0 && r.decay > 0.0) {
                    faults.push(
                        "schedule.floor must be at least 0 and schedule.decay positive".into(),
                    );
                }
            }
            RateSchedule::WarmupCosine { warmup_share } => {
                if !(0.0..1.0).contains(warmup_share) {
                    faults.push(format!(
                        "schedule.warmup_share is {warmup_share}, permitted are 0 to under 1"
                    ));
                }
            }
        }
        faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The fixture `lr_schedule.json` has rates that the authors' code computed. A parameter that a
    /// schedule in it lacks has the default value.
    #[test]
    fn warm_restart_rates_equal_those_of_the_authors_code() {
        let fixture = crate::testing::golden("lr_schedule.json");
        let schedules = fixture["schedules"].as_object().unwrap();
        assert!(schedules.len() >= 2);
        for (name, given) in schedules {
            let default = WarmRestarts::default();
            let number = |keys: &[&str], default: f64| {
                keys.iter()
                    .find_map(|key| given[*key].as_f64())
                    .unwrap_or(default)
            };
            let schedule = RateSchedule::WarmRestarts(WarmRestarts {
                warmup_epochs: number(
                    &["warmup_epochs", "total_iters"],
                    default.warmup_epochs as f64,
                ) as usize,
                warmup_start: number(&["start_factor"], default.warmup_start),
                period_epochs: number(&["T_0"], default.period_epochs as f64) as usize,
                period_factor: number(&["T_mult"], default.period_factor as f64) as usize,
                floor: number(&["eta_min"], default.floor),
                decay: number(&["gamma"], default.decay),
            });
            let rates = given["lr_per_epoch"].as_array().unwrap();
            assert!(!rates.is_empty(), "{name}");
            for (epoch, rate) in rates.iter().enumerate() {
                let (ours, theirs) = (
                    schedule.rate(
                        given["base_lr"].as_f64().unwrap(),
                        epoch,
                        epoch,
                        rates.len(),
                    ),
                    rate.as_f64().unwrap(),
                );
                assert!(
                    (ours - theirs).abs() <= 1e-12 * theirs.abs(),
                    "{name}, epoch {epoch}: {ours} is not {theirs}"
                );
            }
        }
    }

    #[test]
    fn periods_lengthen_and_peaks_decay_down_to_the_floor() {
        let schedule = WarmRestarts {
            decay: 0.75,
            ..WarmRestarts::default()
        };
        let peaks: Vec<usize> = (1..160)
            .filter(|e| schedule.rate(2e-5, *e) > schedule.rate(2e-5, e - 1) && *e > 5)
            .collect();
        assert_eq!(peaks, [25, 65, 145]);
        assert!(
            (schedule.rate(2e-5, 25) - 1.5e-5).abs() < 1e-15
                && (schedule.rate(2e-5, 65) - 1.125e-5).abs() < 1e-15
        );
        // The rate does not fall below the floor: a quarter of 2e-6 would be less than 1e-6.
        assert_eq!(
            WarmRestarts {
                decay: 0.25,
                ..schedule
            }
            .rate(2e-6, 25),
            1e-6
        );
        let without_warmup = WarmRestarts {
            warmup_epochs: 0,
            ..WarmRestarts::default()
        };
        assert_eq!(without_warmup.rate(0.01, 0), 0.01);
    }

    #[test]
    fn warmup_cosine_rises_linearly_and_ends_at_zero() {
        let schedule = RateSchedule::WarmupCosine { warmup_share: 0.1 };
        let rates: Vec<f64> = (0..100)
            .map(|step| schedule.rate(1.0, 0, step, 100))
            .collect();
        assert!(
            (rates[0] - 0.1).abs() < 1e-12
                && (rates[9] - 1.0).abs() < 1e-12
                && rates[99].abs() < 1e-12
        );
        assert!(rates[9..].windows(2).all(|w| w[1] < w[0]));
        assert_eq!(
            RateSchedule::WarmupCosine { warmup_share: 0.0 }.rate(1.0, 0, 0, 1),
            0.0
        );
    }

    #[test]
    fn schedules_parse_from_toml_and_unknown_keys_are_refused() {
        let read = |text: &str| toml::from_str::<RateSchedule>(text);
        assert_eq!(
            read("kind = \"warm_restarts\"\ndecay = 0.75").unwrap(),
            RateSchedule::WarmRestarts(WarmRestarts {
                decay: 0.75,
                ..Default::default()
            })
        );
        assert!(read("kind = \"warm_restarts\"\ngamma = 0.75").is_err());
        assert_eq!(
            RateSchedule::WarmupCosine { warmup_share: 1.0 }
                .faults()
                .len(),
            1
        );
    }
}
