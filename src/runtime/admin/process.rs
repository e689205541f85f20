//! The standard metrics of a process, as Prometheus' client libraries export them in every language. Mirrors
//! `StandardExports` of the client that ZooKeeper uses.

use std::fs::read_to_string;

/// The metrics of this process.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Process {
    /// User and system time of all threads.
    pub(super) cpu_seconds: f64,
    /// Seconds since 1970.
    pub(super) start_seconds: f64,
    pub(super) virtual_bytes: u64,
    pub(super) resident_bytes: u64,
}

impl Process {
    /// Reads the current values; `None` if `/proc` does not have them.
    pub(super) fn look() -> Option<Process> {
        let (own, host) = (read_to_string("/proc/self/stat").ok()?, read_to_string("/proc/stat").ok()?);
        // SAFETY: asks for two constants of the system and touches nothing.
        let (hertz, page) = unsafe { (libc::sysconf(libc::_SC_CLK_TCK), libc::sysconf(libc::_SC_PAGESIZE)) };
        Process::read(&own, &host, u64::try_from(hertz).ok()?, u64::try_from(page).ok()?)
    }

    /// Parses the texts of `/proc/self/stat` and `/proc/stat`, with `hertz` ticks per second.
    fn read(own: &str, host: &str, hertz: u64, page: u64) -> Option<Process> {
        // The name may contain blanks and brackets. The third field follows its last bracket.
        let fields: Vec<&str> = own.rsplit_once(')')?.1.split_ascii_whitespace().collect();
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        let booted: u64 = host.lines().find_map(|l| l.strip_prefix("btime "))?.trim().parse().ok()?;
        let seconds = |ticks: u64| ticks as f64 / hertz.max(1) as f64;
        Some(Process {
            cpu_seconds: seconds(field(14)? + field(15)?),
            start_seconds: booted as f64 + seconds(field(22)?),
            virtual_bytes: field(23)?,
            resident_bytes: field(24)? * page,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: &str = "7 (a) b) S 1 7 7 0 -1 4194560 1 2 3 4 250 25 9 9 20 0 5 0 1234 8192000 300 1844 1 1 0 0";

    #[test]
    fn figures_are_found_after_a_name_with_brackets() {
        let read = |own: &str, host: &str| Process::read(own, host, 100, 4096);
        let want =
            Process { cpu_seconds: 2.75, start_seconds: 1012.34, virtual_bytes: 8_192_000, resident_bytes: 1_228_800 };
        assert_eq!(read(OWN, "cpu 1 2\nbtime 1000\nprocesses 3\n"), Some(want));
        assert_eq!(read(OWN, "cpu 1 2\n"), None);
        assert_eq!(read("7 (a) S 1", "btime 1000\n"), None);
    }

    #[test]
    fn this_process_has_figures() {
        let p = Process::look().expect("there is /proc");
        assert!(p.resident_bytes > 1 << 20 && p.virtual_bytes >= p.resident_bytes, "{p:?}");
        let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs_f64();
        assert!(p.cpu_seconds >= 0.0 && p.start_seconds > 1.0e9 && p.start_seconds < now + 60.0, "{p:?}");
    }
}
