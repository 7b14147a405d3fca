//! Tests that compare heads, objectives and the training step with the outputs of the authors'
//! modules (`src/train/method.md` h).
//!
//! Every case in a file of `tests/golden/reference` is compared. The expected values are its `f64`
//! block if there is one; the computed ones are `f32`. The test in `guarded` checks that training
//! calls the compared functions.

mod clusters;
mod davenet;
mod fixture;
mod guarded;
mod heads;
mod losses;
mod places;
mod step;
