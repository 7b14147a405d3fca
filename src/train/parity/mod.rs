//! Heads, objectives and the step of training compared with the outputs of the authors' modules
//! (`src/train/method.md` h).
//!
//! Every case of a file is compared, whatever its sizes: the reference is its `f64` block, ours is
//! `f32`. The compared functions are those that training calls; `guarded` checks it.

mod clusters;
mod davenet;
mod fixture;
mod guarded;
mod heads;
mod losses;
mod places;
mod step;
