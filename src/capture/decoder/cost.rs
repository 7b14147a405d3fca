//! Processor time of the decoder processes, for measurements.

use std::collections::BTreeSet;
use std::sync::Mutex;

use rustix::param::clock_ticks_per_second;

/// The ids of the running decoder processes, and the processor time of the ended ones in
/// nanoseconds, summed.
static PROCESSES: Mutex<(BTreeSet<u32>, i64)> = Mutex::new((BTreeSet::new(), 0));

/// Registers a started decoder process by its id.
pub(super) fn register(process: u32) {
    PROCESSES.lock().expect("cost lock").0.insert(process);
}

/// Adds the processor time of an ending process. Must be called just before it is reaped.
pub(super) fn unregister(process: u32) {
    let mut processes = PROCESSES.lock().expect("cost lock");
    if processes.0.remove(&process) {
        processes.1 += cpu_nanos(process).unwrap_or(0);
    }
}

/// The ids of this program's running decoder processes.
pub fn decoder_processes() -> Vec<u32> {
    let processes = PROCESSES.lock().expect("cost lock");
    processes.0.iter().copied().collect()
}

/// Total processor time of all decoder processes of this program, ended ones included, in
/// nanoseconds.
pub fn decoder_cpu_nanos() -> i64 {
    let processes = PROCESSES.lock().expect("cost lock");
    let running = processes.0.iter().filter_map(|process| cpu_nanos(*process));
    processes.1 + running.sum::<i64>()
}

/// User and system time of a process, in nanoseconds; `None` if it is gone.
fn cpu_nanos(process: u32) -> Option<i64> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name of the process is in parentheses and may contain parentheses. User and system time
    // are the fields 14 and 15 (proc(5)).
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks: i64 = fields.get(11)?.parse::<i64>().ok()? + fields.get(12)?.parse::<i64>().ok()?;
    Some(ticks * (1_000_000_000 / i64::try_from(clock_ticks_per_second()).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::process_cpu_nanos;

    #[test]
    fn processor_time_matches_the_system_clock() {
        let own = process_cpu_nanos();
        let read = cpu_nanos(std::process::id()).unwrap();
        let later = process_cpu_nanos();
        // User and system time are counted in ticks of 10 ms each.
        assert!(
            read >= own - 40_000_000 && read <= later + 40_000_000,
            "{own} {read} {later}"
        );
    }
}
