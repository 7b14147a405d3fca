//! What decoder processes cost, for measurements.

use std::collections::BTreeSet;
use std::sync::Mutex;

use rustix::param::clock_ticks_per_second;

/// The processes that run, and the nanoseconds of processor time of those that have ended.
static PROCESSES: Mutex<(BTreeSet<u32>, i64)> = Mutex::new((BTreeSet::new(), 0));

pub(super) fn began(process: u32) {
    PROCESSES.lock().expect("cost lock").0.insert(process);
}

/// For just before the process is waited for.
pub(super) fn ends(process: u32) {
    let mut processes = PROCESSES.lock().expect("cost lock");
    if processes.0.remove(&process) {
        processes.1 += cpu_nanos(process).unwrap_or(0);
    }
}

/// The ids of this program's decoder processes.
pub fn decoder_processes() -> Vec<u32> {
    let processes = PROCESSES.lock().expect("cost lock");
    processes.0.iter().copied().collect()
}

/// Processor time of all decoder processes that this one ever had, in nanoseconds.
pub fn decoder_cpu_nanos() -> i64 {
    let processes = PROCESSES.lock().expect("cost lock");
    let running = processes.0.iter().filter_map(|process| cpu_nanos(*process));
    processes.1 + running.sum::<i64>()
}

fn cpu_nanos(process: u32) -> Option<i64> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name stands in brackets and may hold any; utime and stime are the fields 14 and 15 (proc(5)).
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks: i64 = fields.get(11)?.parse::<i64>().ok()? + fields.get(12)?.parse::<i64>().ok()?;
    Some(ticks * (1_000_000_000 / i64::try_from(clock_ticks_per_second()).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::process_cpu_nanos;

    #[test]
    fn processor_time_is_read_as_the_system_counts_it() {
        let own = process_cpu_nanos();
        let read = cpu_nanos(std::process::id()).unwrap();
        let later = process_cpu_nanos();
        // In ticks of 10 ms for user and system time each.
        assert!(
            read >= own - 40_000_000 && read <= later + 40_000_000,
            "{own} {read} {later}"
        );
    }
}
