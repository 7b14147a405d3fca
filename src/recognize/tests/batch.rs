//! Recognition of several clips at once: the same results as one by one, in less time.

use std::io::Write;

use super::*;
use crate::encode::{Graph, Input};
use crate::time::thread_cpu_nanos;

/// `count` reproducible pseudo-random numbers in -2..2, like normalised inputs.
fn noise(seed: usize, count: usize) -> Vec<f32> {
    let mut state = seed as u64 + 1;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 24) as f32
    };
    (0..count).map(|_| 4.0 * next() - 2.0).collect()
}

/// Runs `graph` on all rows at once and on each row alone. Returns the bit patterns of the first
/// outputs: [batch, single runs].
fn bits(graph: &mut Graph, rows: usize, shapes: &[Vec<usize>], seed: usize) -> [Vec<u32>; 2] {
    let sizes: Vec<usize> = shapes.iter().map(|shape| shape.iter().product()).collect();
    let inputs: Vec<Vec<f32>> = sizes.iter().map(|size| noise(seed, rows * size)).collect();
    let mut run = |from: usize, to: usize| {
        let shapes: Vec<Vec<usize>> = shapes
            .iter()
            .map(|s| [&[to - from], &s[..]].concat())
            .collect();
        let bound: Vec<Input<'_>> = (0..shapes.len())
            .map(|i| Input::F32(&shapes[i], &inputs[i][from * sizes[i]..to * sizes[i]]))
            .collect();
        let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        graph
            .run_with(&bound, |outputs| bits(outputs[0].values))
            .unwrap()
    };
    let single = (0..rows).flat_map(|row| run(row, row + 1)).collect();
    [run(0, rows), single]
}

/// Batching relies on ONNX Runtime's kernels giving a row the same bits in any batch.
#[test]
fn rows_of_a_batch_are_bit_for_bit_those_of_single_runs() {
    let runtime = Runtime::load().unwrap();
    for threads in [1, 2] {
        let folder = project("models/default");
        let mut bundle = Bundle::open(&runtime, &folder, Provider::Cpu, threads).unwrap();
        let head: Vec<Vec<usize>> = bundle
            .manifest
            .encoders
            .iter()
            .map(|e| vec![e.dim])
            .collect();
        let head = [head.clone(), vec![vec![head.len()]]].concat();
        for rows in [2, 3, 5, 8, 17, 32] {
            for encoder in &mut bundle.encoders {
                assert!(encoder.graph.takes_batches());
                let shapes: Vec<Vec<usize>> = match encoder.entry.modality {
                    Modality::Face => vec![encoder.entry.input.clone()],
                    Modality::Voice => [31, 120, 201].map(|frames| vec![1, 64, frames]).to_vec(),
                    Modality::Text => continue,
                };
                for (seed, shape) in shapes.into_iter().enumerate() {
                    let name = format!("{} {shape:?} of {rows}", encoder.entry.name);
                    let [batch, single] = bits(&mut encoder.graph, rows, &[shape], seed);
                    assert!(batch == single, "{name}, {threads} threads");
                }
            }
            let [batch, single] = bits(&mut bundle.head, rows, &head, rows);
            assert!(batch == single, "head of {rows}, {threads} threads");
        }
    }
}

/// Clips of eight subjects with different modalities: each has its own faces, voices are of two
/// lengths, texts are shared, and one clip has no evidence.
pub(super) fn eight_clips(recognizer: &Recognizer, hop: u64) -> Vec<Clip> {
    let presences = [
        (true, false, false),
        (true, true, false),
        (true, false, true),
        (false, false, false),
        (false, true, false),
        (true, true, true),
        (true, true, false),
        (true, false, false),
    ];
    let mut clips = Vec::new();
    for (i, (face, voice, text)) in presences.into_iter().enumerate() {
        let presence = Presence { face, voice, text };
        // Two of five faces are new at each hop.
        let mut made = clip(recognizer, presence, 1000 * (i as u64 + 1) + 2 * hop);
        made.subject = SubjectId::Face(i as u32);
        for face in &mut made.faces {
            let seed = face.id;
            let mut changed = Face::clone(face);
            changed.crop = Some(Arc::new(golden_crop(seed, 0, 48, 1)));
            *face = changed.into();
        }
        if let Ok(voice) = &mut made.voice {
            let count = if i == 6 { 20_000 } else { 32_000 };
            voice.samples = golden_samples(i as u64 + 10 * hop, count).into();
        }
        if let Ok(text) = &mut made.text {
            text.text = format!("what a day {}", i % 2);
        }
        clips.push(made);
    }
    clips
}

/// Recognises all clips in one call, without deadlines.
pub(super) fn recognize_together(recognizer: &mut Recognizer, clips: &[Clip]) -> Vec<Recognition> {
    let clips: Vec<&Clip> = clips.iter().collect();
    recognizer.recognize_all(&clips, &vec![i64::MAX; clips.len()])
}

#[test]
fn a_batch_gives_each_clip_the_recognition_of_a_single_run() {
    let (mut single, mut batched) = (recognizer(), recognizer());
    for hop in 0..4 {
        let clips = eight_clips(&single, hop);
        let expected: Vec<_> = clips.iter().map(|clip| single.recognize(clip)).collect();
        assert_eq!(
            recognize_together(&mut batched, &clips),
            expected,
            "hop {hop}"
        );
        assert!(expected[3].abstain && expected[5].used.text);
    }
    let orders = |recognizer: &Recognizer| {
        let caches = recognizer.caches.iter();
        caches.map(|cache| cache.order.len()).collect::<Vec<_>>()
    };
    assert_eq!(orders(&batched), orders(&single), "each face once");
    assert!(recognize_together(&mut batched, &[]).is_empty());
}

#[test]
fn a_fault_affects_its_clip_only() {
    let (mut single, mut batched) = (recognizer(), recognizer());
    let mut clips = eight_clips(&single, 0);
    clips[1].voice.as_mut().unwrap().samples = vec![f32::NAN; 32_000].into();
    let expected: Vec<_> = clips.iter().map(|clip| single.recognize(clip)).collect();
    let found = recognize_together(&mut batched, &clips);
    assert_eq!(found, expected);
    assert_eq!(found[1].absence.voice, Some(Absence::ModelFault));
    assert!(found[4].used.voice && found[5].used.voice && found[6].used.voice);
}

/// Number of runs of the face, voice and head graphs for the eight clips without those that have
/// text. `change` may modify the bundle first.
fn runs_of_eight_clips(change: impl FnOnce(&mut Bundle)) -> [u64; 3] {
    let runtime = Runtime::load().unwrap().traced();
    let folder = project("models/default");
    let mut bundle = Bundle::open(&runtime, &folder, Provider::Cpu, 1).unwrap();
    change(&mut bundle);
    let mut recognizer = Recognizer::new(bundle);
    let clips: Vec<Clip> = eight_clips(&recognizer, 0)
        .into_iter()
        .filter(|clip| clip.text.is_err())
        .collect();
    let tallies = runtime.tallies();
    tallies.iter().for_each(|tally| tally.clear());
    let expected: Vec<_> = clips
        .iter()
        .map(|clip| self::recognizer().recognize(clip))
        .collect();
    assert_eq!(recognize_together(&mut recognizer, &clips), expected);
    ["face", "voice", "head"].map(|graph| {
        let tally = tallies.iter().find(|tally| tally.graph == graph);
        tally.unwrap().total().count
    })
}

#[test]
fn graphs_run_once_for_all_subjects() {
    // One run of the face graph, one of the voice graph for each of two lengths, one of the head.
    assert_eq!(runs_of_eight_clips(|_| {}), [1, 2, 1]);
}

#[test]
fn graphs_with_a_fixed_first_axis_run_row_by_row() {
    let refuse = |bundle: &mut Bundle| {
        let encoders = bundle.encoders.iter_mut();
        encoders.for_each(|encoder| encoder.graph.refuse_batches());
        bundle.head.refuse_batches();
    };
    // Four clips with five faces each, three clips with a voice, five clips with evidence.
    assert_eq!(runs_of_eight_clips(refuse), [20, 3, 5]);
}

/// Both ways alternate in one process, measured in CPU time of the thread. The median over the hops
/// of their ratio is compared, because another thread on the same core slows both ways within a
/// hop.
#[test]
fn recognising_eight_subjects_together_costs_less_cpu_time_than_one_by_one() {
    let (mut single, mut batched) = (recognizer(), recognizer());
    let (mut ratios, mut spent) = (Vec::new(), [0i64; 2]);
    for hop in 0..60 {
        let clips: Vec<Clip> = eight_clips(&single, hop)
            .into_iter()
            .map(|mut clip| {
                clip.text = Err(Absence::NoTranscript);
                clip
            })
            .collect();
        let began = thread_cpu_nanos();
        clips.iter().for_each(|clip| _ = single.recognize(clip));
        let between = thread_cpu_nanos();
        recognize_together(&mut batched, &clips);
        let ended = thread_cpu_nanos();
        if hop >= 3 {
            spent = [spent[0] + between - began, spent[1] + ended - between];
            ratios.push((ended - between) as f64 / (between - began) as f64);
        }
    }
    let [one_by_one, batch] = spent.map(|nanos| nanos as f64 / 57e6);
    ratios.sort_unstable_by(f64::total_cmp);
    let median = ratios[ratios.len() / 2];
    let _ = writeln!(
        std::io::stderr(),
        "eight subjects a hop: {one_by_one:.2} ms one by one, {batch:.2} ms together, median ratio \
         {median:.3}"
    );
    assert!(median < 1.0, "together {median} of one by one");
}
