//! CPU time and memory of a server process, from `/proc`.

use std::fs;

use crate::Result;
use crate::poll::ticks_per_second;

/// The CPU time of a process at one moment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// User time, nanoseconds (the kernel counts in ticks of 10 ms).
    pub user_ns: u64,
    /// System time, nanoseconds.
    pub system_ns: u64,
}

impl Usage {
    /// User and system time since the process started.
    pub fn read(pid: u32) -> Result<Usage> {
        let file = format!("/proc/{pid}/stat");
        let text = fs::read_to_string(&file).map_err(|e| format!("{file}: {e} (is --server-pid right?)"))?;
        // The name is in parentheses and may contain any character; numbers follow it.
        let rest = text.rsplit_once(')').map(|(_, rest)| rest).ok_or_else(|| format!("{file}: no name in brackets"))?;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let ticks = |n: usize| -> Result<u64> {
            fields.get(n).and_then(|f| f.parse().ok()).ok_or_else(|| format!("{file}: field {} is no number", n + 3))
        };
        let tick_ns = 1_000_000_000 / ticks_per_second();
        Ok(Usage { user_ns: ticks(11)? * tick_ns, system_ns: ticks(12)? * tick_ns })
    }

    /// The time used since `before`.
    pub fn since(self, before: Usage) -> Usage {
        Usage {
            user_ns: self.user_ns.saturating_sub(before.user_ns),
            system_ns: self.system_ns.saturating_sub(before.system_ns),
        }
    }

    /// User and system time together, in nanoseconds.
    pub fn total_ns(self) -> u64 {
        self.user_ns + self.system_ns
    }
}

/// Memory of a process, bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Memory {
    /// Resident.
    pub rss: u64,
    /// The maximum so far.
    pub peak_rss: u64,
    /// Resident memory that is not backed by a file: the mapped log does not count.
    pub anonymous: u64,
}

impl Memory {
    /// From `/proc/PID/status`.
    pub fn read(pid: u32) -> Result<Memory> {
        let file = format!("/proc/{pid}/status");
        let text = fs::read_to_string(&file).map_err(|e| format!("{file}: {e} (is --server-pid right?)"))?;
        let kib = |name: &str| -> Result<u64> {
            text.lines()
                .find_map(|l| l.strip_prefix(name)?.strip_prefix(':')?.trim().strip_suffix(" kB")?.parse::<u64>().ok())
                .map(|n| n * 1024)
                .ok_or_else(|| format!("{file}: no {name}"))
        };
        Ok(Memory { rss: kib("VmRSS")?, peak_rss: kib("VmHWM")?, anonymous: kib("RssAnon")? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_process() {
        let pid = std::process::id();
        let before = Usage::read(pid).unwrap();
        let began = crate::poll::now_ns();
        let mut x = 1u64;
        while crate::poll::now_ns() - began < 100_000_000 {
            x = std::hint::black_box(x.wrapping_mul(3));
        }
        let used = Usage::read(pid).unwrap().since(before).total_ns();
        assert!(used >= 10_000_000, "{used}");
        let memory = Memory::read(pid).unwrap();
        assert!(memory.rss > 0 && memory.peak_rss >= memory.rss && memory.anonymous <= memory.rss);
    }

    #[test]
    fn nobody() {
        assert!(Usage::read(u32::MAX).unwrap_err().contains("--server-pid"));
    }
}
