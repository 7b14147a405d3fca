//! Repair of stamps from containers and cameras: missing stamps, and single stamps far ahead.

/// Assumed interval of pictures without stamps and durations, in nanoseconds: 25 pictures per
/// second.
const ASSUMED_NANOS: i64 = 40_000_000;
/// A stamp more than this many nanoseconds ahead of the previous one is held until later stamps
/// confirm it.
const SUSPECT_NANOS: i64 = 1_000_000_000;
/// A stamp is held only if it is also more than this many previous intervals ahead.
const SUSPECT_INTERVALS: i64 = 10;
/// Number of consecutive items after a jump that confirm it as a gap: the recording was paused.
const CONFIRMING: usize = 4;
/// Items held at the end of a stream, where no later item can confirm them, are dropped if they are
/// more than this many nanoseconds ahead.
const FAR_NANOS: i64 = 60_000_000_000;

/// Stamps the pictures of one track. Missing stamps are extrapolated.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct PictureStamps {
    /// Resulting time of the last picture in nanoseconds, and its own stamp if it had one.
    last: Option<(i64, Option<i64>)>,
    /// Interval between the last two different stamps, in nanoseconds; `None` before the second
    /// one.
    interval: Option<i64>,
}

/// The time of a picture after the repair of missing stamps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StampedTime {
    /// The time, in nanoseconds.
    pub nanos: i64,
    /// Whether the time is extrapolated at an assumed rate, because the picture has no stamp and
    /// the rate is unknown.
    pub is_assumed: bool,
}

impl PictureStamps {
    /// The time of the next picture, from its stamp and duration in nanoseconds, if it has them.
    /// Stamps that are constant from the beginning count as missing.
    pub fn place(&mut self, stamp: Option<i64>, duration: Option<i64>) -> StampedTime {
        let Some((last, last_stamp)) = self.last else {
            let nanos = stamp.unwrap_or(0);
            self.last = Some((nanos, stamp));
            return StampedTime {
                nanos,
                is_assumed: false,
            };
        };
        let stands_still = self.interval.is_none() && stamp == last_stamp;
        let placed = match stamp.filter(|_| !stands_still) {
            Some(nanos) => {
                if nanos > last {
                    self.interval = Some(nanos - last);
                }
                StampedTime {
                    nanos,
                    is_assumed: false,
                }
            }
            None => StampedTime {
                nanos: last
                    + self
                        .interval
                        .or(duration.filter(|nanos| *nanos > 0))
                        .unwrap_or(ASSUMED_NANOS),
                is_assumed: self.interval.is_none(),
            },
        };
        self.last = Some((placed.nanos, stamp));
        placed
    }
}

/// Holds items with stamps far ahead of the previous ones until later stamps confirm or refute
/// them.
#[derive(Debug)]
pub(super) struct OutlierFilter<T> {
    /// Latest accepted stamp and interval of the last two items, in nanoseconds.
    last: Option<(i64, i64)>,
    /// Held items with their stamps.
    held: Vec<(i64, T)>,
    /// Number of dropped items.
    pub dropped: u64,
    /// Latest stamp of the dropped items, in nanoseconds.
    pub latest: Option<i64>,
}

impl<T> Default for OutlierFilter<T> {
    fn default() -> Self {
        OutlierFilter {
            last: None,
            held: Vec::new(),
            dropped: 0,
            latest: None,
        }
    }
}

impl<T> OutlierFilter<T> {
    /// Adds an item with the stamp `nanos`. Returns the items that are accepted now, with their
    /// stamps, in order.
    pub fn push(&mut self, nanos: i64, item: T) -> Vec<(i64, T)> {
        let Some((last, interval)) = self.last else {
            self.last = Some((nanos, 0));
            return vec![(nanos, item)];
        };
        let mut ready = Vec::new();
        if let Some((first, _)) = self.held.first() {
            if nanos < last + (first - last) / 2 {
                self.drop_held();
            } else {
                self.held.push((nanos, item));
                if self.held.len() < CONFIRMING {
                    return ready;
                }
                let interval = nanos - self.held[CONFIRMING - 2].0;
                ready.append(&mut self.held);
                self.last = Some((nanos, interval.max(0)));
                return ready;
            }
        } else if nanos - last > SUSPECT_NANOS.max(SUSPECT_INTERVALS * interval) {
            self.held.push((nanos, item));
            return ready;
        }
        let interval = if nanos > last { nanos - last } else { interval };
        self.last = Some((nanos.max(last), interval));
        ready.push((nanos, item));
        ready
    }

    /// Ends the stream: returns the held items, unless they are too far ahead.
    pub fn finish(&mut self) -> Vec<(i64, T)> {
        let is_far = self.last.is_some_and(|(last, _)| {
            self.held
                .first()
                .is_some_and(|(first, _)| first - last > FAR_NANOS)
        });
        if is_far {
            self.drop_held();
        }
        std::mem::take(&mut self.held)
    }

    /// Drops and counts the held items.
    fn drop_held(&mut self) {
        for (nanos, _) in self.held.drain(..) {
            self.dropped += 1;
            self.latest = self.latest.max(Some(nanos));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn placed(stamps: &[(Option<i64>, Option<i64>)]) -> Vec<(i64, bool)> {
        let mut places = PictureStamps::default();
        stamps
            .iter()
            .map(|(stamp, duration)| {
                let placed = places.place(*stamp, *duration);
                (placed.nanos, placed.is_assumed)
            })
            .collect()
    }

    #[test]
    fn missing_stamps_follow_durations_or_an_assumed_rate() {
        assert_eq!(
            placed(&[(Some(0), None), (None, None), (None, None)]),
            [(0, false), (40_000_000, true), (80_000_000, true)]
        );
        let still = (Some(0), Some(100));
        assert_eq!(
            placed(&[still, still, still]),
            [(0, false), (100, true), (200, true)]
        );
        assert_eq!(
            placed(&[(None, None), (None, None)]),
            [(0, false), (40_000_000, true)]
        );
    }

    #[test]
    fn existing_stamps_are_used() {
        let steady = (0..4).map(|n| (Some(n * 33), Some(33)));
        assert!(
            placed(&steady.collect::<Vec<_>>())
                .iter()
                .all(|(_, is_assumed)| !is_assumed)
        );
        // A missing stamp is extrapolated by the last interval; a repeated stamp is returned
        // unchanged.
        assert_eq!(
            placed(&[(Some(0), None), (Some(30), None), (None, None)])[2],
            (60, false)
        );
        assert_eq!(
            placed(&[(Some(0), None), (Some(30), None), (Some(30), None)])[2],
            (30, false)
        );
    }

    /// The accepted stamps in milliseconds, and the number of dropped ones.
    fn filtered(stamps: &[i64]) -> (Vec<i64>, u64) {
        let mut outliers = OutlierFilter::default();
        let mut on = Vec::new();
        for ms in stamps {
            on.extend(outliers.push(ms * 1_000_000, ()));
        }
        on.extend(outliers.finish());
        let on = on.into_iter().map(|(nanos, ())| nanos / 1_000_000);
        (on.collect(), outliers.dropped)
    }

    #[test]
    fn stamps_far_ahead_are_dropped_and_gaps_are_kept() {
        let hours = 46_000_000;
        assert_eq!(
            filtered(&[0, 40, hours, 80, 120]),
            (vec![0, 40, 80, 120], 1)
        );
        assert_eq!(
            filtered(&[0, 40, hours, hours + 40, 80, 120]),
            (vec![0, 40, 80, 120], 2)
        );
        assert_eq!(filtered(&[0, 40, 80, hours]), (vec![0, 40, 80], 1));
        let paused = [0, 40, 9000, 9040, 9080, 9120, 9160];
        assert_eq!(filtered(&paused), (paused.to_vec(), 0));
        let hours_later = [0, 40, hours, hours + 40, hours + 80, hours + 120];
        assert_eq!(filtered(&hours_later), (hours_later.to_vec(), 0));
        // A slide show whose last picture is shown for long.
        let slides = [0, 5000, 10_000, 15_000, 45_000];
        assert_eq!(filtered(&slides), (slides.to_vec(), 0));
        // A backward step is not a jump ahead.
        assert_eq!(filtered(&[0, 40, 20, 60]), (vec![0, 40, 20, 60], 0));
    }
}
