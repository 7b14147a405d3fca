//! The kinds of scenes that the tracker's figures are measured on.

use std::f32::consts::TAU;
use std::path::Path;

use super::recording::{Outcome, Scene};
use super::scene::{Actor, Cutout, DETECTORS, PEOPLE, cutouts, linear};
use super::simulated::{Faults, Simulation};

/// The faces that the scenes show, each in two sizes.
pub(super) struct People {
    /// Faces of 110 pixels.
    near: Vec<Cutout>,
    /// Faces of 80 pixels.
    far: Vec<Cutout>,
}

impl People {
    pub(super) fn new(folder: &Path) -> People {
        People {
            near: cutouts(folder, &PEOPLE, 110.0),
            far: cutouts(folder, &PEOPLE, 80.0),
        }
    }
}

/// The accuracy that the tracker must reach on a kind of scene.
pub(super) struct Contract {
    pub(super) name: &'static str,
    /// Lowest MOTA.
    pub(super) mota: f64,
    /// Lowest IDF1.
    pub(super) idf1: f64,
    /// Lowest HOTA.
    pub(super) hota: f64,
    /// Highest number of identity switches per 1000 faces that have to be found.
    pub(super) switches: f64,
}

pub(super) static CONTRACTS: [Contract; 2] = [
    Contract {
        name: "a detector's own detections",
        mota: 0.97,
        idf1: 0.98,
        hota: 0.88,
        switches: 1.0,
    },
    Contract {
        name: "a simulated detector with faults",
        mota: 0.75,
        idf1: 0.85,
        hota: 0.75,
        switches: 1.0,
    },
];

/// A kind of scene: several scenes with the same difficulty.
pub(super) struct Kind {
    pub(super) name: &'static str,
    pub(super) contract: &'static Contract,
    detector: &'static str,
    scenes: for<'a> fn(&'a People) -> Vec<Scene<'a>>,
}

/// A kind of scene with detections of the default detector.
const fn kind(name: &'static str, scenes: for<'a> fn(&'a People) -> Vec<Scene<'a>>) -> Kind {
    Kind {
        name,
        contract: &CONTRACTS[0],
        detector: DETECTORS[0],
        scenes,
    }
}

/// The scenes of `kind` with detections of MTCNN.
const fn by_mtcnn(kind: Kind, name: &'static str) -> Kind {
    Kind {
        name,
        detector: DETECTORS[1],
        ..kind
    }
}

/// `kind` with other required values.
const fn under(contract: &'static Contract, kind: Kind) -> Kind {
    Kind { contract, ..kind }
}

const CROSSING: Kind = kind("crossing", crossings);
const OCCLUSION: Kind = kind("occlusion", occlusions);

pub(super) const KINDS: [Kind; 15] = [
    CROSSING,
    by_mtcnn(CROSSING, "crossing, MTCNN"),
    OCCLUSION,
    by_mtcnn(OCCLUSION, "occlusion, MTCNN"),
    kind("leaving and returning", departures),
    kind("groups of three to five", groups),
    kind("scene cuts", scene_cuts),
    kind("camera shake", camera_shake),
    kind("fast motion", fast_motion),
    kind("five frames a second", low_frame_rate),
    simulated("inexact detections", |people| {
        faulty(
            people,
            Faults {
                jitter: 0.1,
                ..Faults::default()
            },
        )
    }),
    simulated("missed detections", |people| {
        faulty(
            people,
            Faults {
                missed: 0.5,
                ..Faults::default()
            },
        )
    }),
    simulated("false detections", |people| {
        faulty(
            people,
            Faults {
                false_positives: 0.8,
                ..Faults::default()
            },
        )
    }),
    simulated("late detections", |people| {
        faulty(
            people,
            Faults {
                delay: 8,
                ..Faults::default()
            },
        )
    }),
    simulated("all of these faults", |people| {
        let faults = Faults {
            jitter: 0.07,
            missed: 0.3,
            false_positives: 0.4,
            delay: 5,
        };
        faulty(people, faults)
    }),
];

/// A kind of scene with simulated detections.
const fn simulated(name: &'static str, scenes: for<'a> fn(&'a People) -> Vec<Scene<'a>>) -> Kind {
    under(&CONTRACTS[1], kind(name, scenes))
}

impl Kind {
    /// Runs the tracker on all scenes of this kind, in order.
    pub(super) fn play(&self, people: &People) -> Vec<Outcome> {
        let scenes = (self.scenes)(people);
        scenes
            .iter()
            .map(|scene| scene.play(self.detector))
            .collect()
    }
}

/// An actor who stays at `place`, in pixels.
fn still(cutout: &Cutout, place: [f32; 2]) -> Actor<'_> {
    moving(cutout, move |_| Some(place))
}

/// An actor whose place is `path` of the time in seconds.
fn moving<'a>(cutout: &'a Cutout, path: impl Fn(f32) -> Option<[f32; 2]> + 'a) -> Actor<'a> {
    Actor {
        cutout,
        path: Box::new(path),
    }
}

/// Every pair of people once, as the one behind and the one in front. Each person is sometimes
/// behind and sometimes in front.
fn pairs(people: &[Cutout]) -> Vec<(usize, usize)> {
    let all = (0..people.len()).flat_map(|a| (0..people.len()).map(move |b| (a, b)));
    all.filter(|(a, b)| a != b && (b > a) == ((a + b) % 2 == 0))
        .collect()
}

/// Two people who pass each other, one before the other.
fn crossing<'a>(back: &'a Cutout, front: &'a Cutout, seconds: f32) -> Scene<'a> {
    let paths = [
        (back, linear([110.0, 180.0], [530.0, 170.0], seconds)),
        (front, linear([530.0, 190.0], [110.0, 180.0], seconds)),
    ];
    let actors = paths.map(|(cutout, path)| Actor { cutout, path });
    Scene::new(actors.into(), seconds + 0.5)
}

/// The crossing of every pair.
fn crossings(people: &People) -> Vec<Scene<'_>> {
    let people = &people.near;
    let crossing = |(back, front): (usize, usize)| {
        let seconds = if (back + front) % 2 == 0 { 3.0 } else { 5.0 };
        crossing(&people[back], &people[front], seconds)
    };
    pairs(people).into_iter().map(crossing).collect()
}

/// Two scenes for each person, with another person present. First the person walks behind a pillar
/// at constant speed. Then the person disappears for a second and returns 60 px away.
fn occlusions(people: &People) -> Vec<Scene<'_>> {
    let people = &people.near;
    let scenes = |i: usize| {
        let (person, other) = (&people[i], &people[(i + 1) % people.len()]);
        let behind = vec![
            still(other, [540.0, 170.0]),
            moving(person, linear([90.0, 180.0], [440.0, 180.0], 3.5)),
        ];
        let gone = vec![
            still(other, [500.0, 170.0]),
            moving(person, |t| {
                if t < 1.5 {
                    Some([200.0, 180.0])
                } else {
                    (t >= 2.5).then_some([260.0, 190.0])
                }
            }),
        ];
        let behind = Scene {
            pillar: Some(210..310),
            ..Scene::new(behind, 4.5)
        };
        [behind, Scene::new(gone, 4.5)]
    };
    (0..people.len()).flat_map(scenes).collect()
}

/// Three people. The first stands. The second walks out of the picture, returns after a second, and
/// walks out again for three seconds. The third comes in meanwhile.
fn departures(people: &People) -> Vec<Scene<'_>> {
    let people = &people.near;
    let scene = |i: usize| {
        let walk = |t: f32| {
            // Piecewise linear, in seconds and pixels.
            let points = [
                (0.0, 150.0),
                (1.0, 150.0),
                (2.0, -90.0),
                (2.8, -90.0),
                (3.8, 150.0),
                (4.8, 150.0),
                (5.8, -90.0),
                (8.4, -90.0),
                (9.4, 150.0),
                (11.0, 150.0),
            ];
            let part = points.windows(2).find(|p| t < p[1].0)?;
            let [(from, x), (to, end)] = [part[0], part[1]];
            Some([x + (end - x) * (t - from) / (to - from), 180.0])
        };
        let third = |t: f32| {
            let x = 730.0 - 200.0 * ((t - 2.5) / 1.5).clamp(0.0, 1.0);
            (t >= 2.5).then_some([x, 190.0])
        };
        let actors = vec![
            still(&people[i], [330.0, 170.0]),
            moving(&people[(i + 1) % people.len()], walk),
            moving(&people[(i + 2) % people.len()], third),
        ];
        Scene::new(actors, 10.5)
    };
    [0, 2, 4].into_iter().map(scene).collect()
}

/// `count` people who walk to and fro at different speeds and pass each other many times.
fn group(people: &[Cutout], count: usize, variant: usize, seconds: f32) -> Scene<'_> {
    let actor = |i: usize| {
        let cutout = &people[(i + variant) % people.len()];
        let phase = TAU * (0.37 * i as f32 + 0.61 * variant as f32);
        let turns = 0.06 + 0.035 * ((2 * i + variant) % 5) as f32;
        moving(cutout, move |t| {
            let x = 320.0 + 240.0 * (TAU * turns * t + phase).sin();
            let y = 180.0 + 70.0 * (TAU * 0.11 * t + 2.1 * phase).sin();
            Some([x, y])
        })
    };
    Scene::new((0..count).map(actor).collect(), seconds)
}

fn groups(people: &People) -> Vec<Scene<'_>> {
    let group = |i: usize| group(&people.far, 3 + i % 3, i, 8.0);
    (0..6).map(group).collect()
}

/// Three shots of two seconds: two people; a third person alone, at the place of one of them; the
/// first two again, at each other's places.
fn scene_cuts(people: &People) -> Vec<Scene<'_>> {
    let people = &people.near;
    let scene = |i: usize| {
        let [left, right] = [[170.0, 180.0], [450.0, 170.0]];
        let two = move |first: [f32; 2], last: [f32; 2]| {
            move |t: f32| match t {
                ..2.0 => Some(first),
                4.0.. => Some(last),
                _ => None,
            }
        };
        let actors = vec![
            moving(&people[i], two(left, right)),
            moving(&people[(i + 1) % people.len()], two(right, left)),
            moving(&people[(i + 2) % people.len()], move |t| {
                (2.0..4.0).contains(&t).then_some(left)
            }),
        ];
        Scene {
            cuts: &[2.0, 4.0],
            ..Scene::new(actors, 6.0)
        }
    };
    (0..4).map(scene).collect()
}

/// Two people who stand and one who walks behind them. The camera shakes with up to three face
/// widths per second.
fn camera_shake(people: &People) -> Vec<Scene<'_>> {
    let people = &people.near;
    let scene = |i: usize| {
        let actors = vec![
            moving(&people[i], linear([90.0, 190.0], [550.0, 180.0], 5.0)),
            still(&people[(i + 1) % people.len()], [190.0, 170.0]),
            still(&people[(i + 2) % people.len()], [470.0, 180.0]),
        ];
        Scene {
            camera: |t| {
                [
                    12.0 * (TAU * 2.6 * t).sin() + 3.0 * (TAU * 6.1 * t).sin(),
                    8.0 * (TAU * 3.3 * t).sin(),
                ]
            },
            ..Scene::new(actors, 5.0)
        }
    };
    (0..4).map(scene).collect()
}

/// A person who runs to and fro with up to five face widths per second, in front of one who stands.
fn fast_motion(people: &People) -> Vec<Scene<'_>> {
    let people = &people.near;
    let scene = |i: usize| {
        let actors = vec![
            still(&people[i], [320.0, 180.0]),
            moving(&people[(i + 1) % people.len()], |t| {
                Some([320.0 + 230.0 * (TAU * 0.38 * t).cos(), 190.0])
            }),
        ];
        Scene::new(actors, 5.5)
    };
    (0..4).map(scene).collect()
}

/// The scenes of [`crossings`] at five frames per second.
fn low_frame_rate(people: &People) -> Vec<Scene<'_>> {
    let slow = |scene| Scene { fps: 5, ..scene };
    crossings(people).into_iter().map(slow).collect()
}

/// Groups of two to five people, with simulated detections that have the given faults.
fn faulty(people: &People, faults: Faults) -> Vec<Scene<'_>> {
    let scene = |i: usize| Scene {
        simulation: Some(Simulation::new(faults, 100 + i as u64)),
        ..group(&people.far, 2 + i, i + 6, 7.0)
    };
    (0..4).map(scene).collect()
}
