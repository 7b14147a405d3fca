//! CPU time of the parts of the program, which are recognised by the names of its threads.

use std::collections::BTreeMap;

use rustix::param::clock_ticks_per_second;

use expressd::capture::decoder_processes;

/// CPU time so far of each running thread: thread id to (name, seconds).
#[derive(Clone, Debug, Default)]
pub struct ThreadCpuTimes(BTreeMap<u32, (String, f64)>);

impl ThreadCpuTimes {
    /// Reads the CPU times of this process and its decoder processes. The result is empty if the
    /// system does not report them.
    pub fn now() -> ThreadCpuTimes {
        let decoders = decoder_processes().into_iter();
        let folders = decoders.map(|process| format!("/proc/{process}/task"));
        let tasks = folders
            .chain(["/proc/self/task".to_owned()])
            .filter_map(|folder| std::fs::read_dir(folder).ok())
            .flatten();
        let one = |task: std::fs::DirEntry| {
            let stat = std::fs::read_to_string(task.path().join("stat")).ok()?;
            Some((task.file_name().to_str()?.parse().ok()?, parse_stat(&stat)?))
        };
        ThreadCpuTimes(tasks.flatten().filter_map(one).collect())
    }

    /// CPU time of each part since `before`, which was taken `seconds` ago: (part, per cent of one
    /// core). The highest value is first; parts without cost are left out.
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

/// Parses the content of `/proc/<pid>/task/<tid>/stat`; returns (name of the thread, CPU seconds).
/// The name is in parentheses and may contain parentheses itself.
fn parse_stat(stat: &str) -> Option<(String, f64)> {
    let (name, rest) = stat.split_once('(')?.1.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    // utime and stime are fields 14 and 15 of the file (proc(5)); `fields[0]` is field 3.
    let ticks: u64 = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    Some((
        name.to_owned(),
        ticks as f64 / clock_ticks_per_second() as f64,
    ))
}

/// The part of the program that a thread belongs to. The program's own threads are named after
/// stages, GStreamer's after element and pad.
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
    fn a_busy_thread_has_cpu_time() {
        let before = ThreadCpuTimes::now();
        let begun = expressd::time::process_cpu_nanos();
        // The thread is busy for longer than the clock's resolution, a hundredth of a second.
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
    fn a_thread_name_with_parentheses_is_parsed_completely() {
        let (name, seconds) =
            parse_stat("77 (qtdemux0:sink (1)) S 1 1 1 0 -1 1 1 1 1 1 150 50 0 0 20").unwrap();
        assert_eq!(name, "qtdemux0:sink (1)");
        assert!((seconds - 200.0 / clock_ticks_per_second() as f64).abs() < 1e-9);
        assert_eq!(part(&name), part("avdec_h264-0"));
        assert_eq!(part("faces"), "faces");
    }
}
