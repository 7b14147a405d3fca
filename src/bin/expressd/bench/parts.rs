//! Processor time of the parts of the process, by the names of its threads.

use std::collections::BTreeMap;

use rustix::param::clock_ticks_per_second;

use expressd::capture::decoder_processes;

/// Processor time of each running thread so far: name and seconds, by thread id.
#[derive(Clone, Debug, Default)]
pub struct ThreadCpuTimes(BTreeMap<u32, (String, f64)>);

impl ThreadCpuTimes {
    /// The times of this process and its decoder processes. Empty if the system does not report
    /// them.
    pub fn now() -> ThreadCpuTimes {
        let decoders = decoder_processes().into_iter();
        let folders = decoders.map(|process| format!("/proc/{process}/task"));
        let tasks = folders
            .chain(["/proc/self/task".to_owned()])
            .filter_map(|folder| std::fs::read_dir(folder).ok())
            .flatten();
        let one = |task: std::fs::DirEntry| {
            let stat = std::fs::read_to_string(task.path().join("stat")).ok()?;
            Some((task.file_name().to_str()?.parse().ok()?, read(&stat)?))
        };
        ThreadCpuTimes(tasks.flatten().filter_map(one).collect())
    }

    /// Processor time by part since `before`, which was taken `seconds` ago, in per cent of one
    /// core. The highest comes first; parts without cost are left out.
    pub fn since(&self, before: &ThreadCpuTimes, seconds: f64) -> Vec<(String, f64)> {
        let mut parts = BTreeMap::<String, f64>::new();
        for (id, (name, spent)) in &self.0 {
            let earlier = before.0.get(id).map_or(0.0, |(_, spent)| *spent);
            *parts.entry(part(name)).or_default() += (spent - earlier) / seconds * 100.0;
        }
        let mut parts: Vec<_> = parts
            .into_iter()
            .filter(|(_, percent)| *percent > 0.0)
            .collect();
        parts.sort_by(|a, b| b.1.total_cmp(&a.1));
        parts
    }
}

/// Name and seconds of a thread from its `/proc/<pid>/task/<tid>/stat`. The name is in parentheses,
/// and may contain some itself.
fn read(stat: &str) -> Option<(String, f64)> {
    let (name, rest) = stat.split_once('(')?.1.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    // utime and stime are the fields 14 and 15 (proc(5)); the first here is field 3.
    let ticks: u64 = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    Some((
        name.to_owned(),
        ticks as f64 / clock_ticks_per_second() as f64,
    ))
}

/// The part that a thread belongs to. Our threads are named after stages, GStreamer's after element
/// and pad.
fn part(thread: &str) -> String {
    let gstreamer = [
        "demux", "queue", "dec", "src", "sink", "parse", "typefind", "appsink", "pool",
    ];
    match thread {
        name if name.contains(':') || gstreamer.iter().any(|piece| name.contains(piece)) => {
            "reading and decoding (GStreamer)".to_owned()
        }
        name if name.starts_with("tokio") => "serving".to_owned(),
        name => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_thread_has_processor_time() {
        let before = ThreadCpuTimes::now();
        let begun = expressd::time::process_cpu_nanos();
        // Longer than a tick of the clock, a hundredth of a second.
        let busy = std::thread::Builder::new().name("busy (one)".into());
        let found = busy
            .spawn(move || {
                while expressd::time::process_cpu_nanos() - begun < 200_000_000 {
                    std::hint::black_box((0..1000).sum::<u64>());
                }
                ThreadCpuTimes::now().since(&before, 1.0)
            })
            .unwrap()
            .join()
            .unwrap();
        let percent = found
            .iter()
            .find(|(name, _)| name == "busy (one)")
            .map_or(0.0, |(_, percent)| *percent);
        assert!(percent > 0.0, "{found:?}");
    }

    #[test]
    fn names_with_brackets_are_read_whole() {
        let (name, seconds) =
            read("77 (qtdemux0:sink (1)) S 1 1 1 0 -1 1 1 1 1 1 150 50 0 0 20").unwrap();
        assert_eq!(name, "qtdemux0:sink (1)");
        assert!((seconds - 200.0 / clock_ticks_per_second() as f64).abs() < 1e-9);
        assert_eq!(part(&name), part("avdec_h264-0"));
        assert_eq!(part("faces"), "faces");
    }
}
