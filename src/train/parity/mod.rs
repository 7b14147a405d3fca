//! Heads and objectives compared with the outputs of the authors' modules (`src/train/method.md`
//! h).
//!
//! Every case of a file is compared, whatever its sizes: the reference is its `f64` block, ours is
//! `f32`.

mod clusters;
mod davenet;
mod fixture;
mod heads;
mod losses;
mod places;
mod step;
