//! Which CPU each core runs on, and the resource limits of the process.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::io;
use std::str::FromStr;

/// The `cores` setting.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub enum Cores {
    /// Chosen for this host: the CPUs that the process may use (by affinity and cgroup quota).
    #[default]
    Auto,
    /// These CPUs: the first for the peer core, each of the others for a shard; a single one is used for both.
    List(Vec<usize>),
}

/// Why a `cores` setting cannot be used.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CoresError {
    /// Not `auto` and not a list such as `0-3,8`.
    Syntax(String),
    /// A CPU is named twice.
    Twice(usize),
    /// This CPU does not exist, or the process may not use it.
    NotAllowed {
        /// The CPU.
        cpu: usize,
        /// The CPUs that the process may use.
        allowed: Vec<usize>,
    },
}

impl fmt::Display for CoresError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CoresError::Syntax(s) => write!(f, "cores={s}: write `auto` or a list of CPU numbers such as 0-3,8"),
            CoresError::Twice(cpu) => write!(f, "cores: CPU {cpu} is named twice: name it once"),
            CoresError::NotAllowed { cpu, allowed } => write!(
                f,
                "cores: CPU {cpu} is not available to this process (available: {}; see taskset, the cgroup's cpuset.cpus and \
                 CPUAffinity in the systemd unit)",
                Ranges(allowed)
            ),
        }
    }
}

impl std::error::Error for CoresError {}

/// Most CPUs that a list may name: without it `0-4000000000` would fill the memory.
const MAX_CPUS: usize = 1024;

impl FromStr for Cores {
    type Err = CoresError;

    fn from_str(s: &str) -> Result<Cores, CoresError> {
        if s.trim().eq_ignore_ascii_case("auto") {
            return Ok(Cores::Auto);
        }
        let cpus = parse_list(s).ok_or_else(|| CoresError::Syntax(s.to_owned()))?;
        let mut seen = BTreeSet::new();
        match cpus.iter().find(|&&c| !seen.insert(c)) {
            Some(&c) => Err(CoresError::Twice(c)),
            None => Ok(Cores::List(cpus)),
        }
    }
}

/// Parses `0-3,8`, the form that the kernel also writes. `None` if the text has another form or is empty.
fn parse_list(s: &str) -> Option<Vec<usize>> {
    let mut cpus = Vec::new();
    for part in s.trim().split(',') {
        let (first, last) = part.trim().split_once('-').unwrap_or((part.trim(), part.trim()));
        let (first, last): (usize, usize) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        if last < first || last - first >= MAX_CPUS || cpus.len() >= MAX_CPUS {
            return None;
        }
        cpus.extend(first..=last);
    }
    Some(cpus)
}

/// Displays CPU numbers as `0-3,8`.
struct Ranges<'a>(&'a [usize]);

impl fmt::Display for Ranges<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, run) in self.0.chunk_by(|a, b| a + 1 == *b).enumerate() {
            let comma = if i > 0 { "," } else { "" };
            match run {
                [one] => write!(f, "{comma}{one}")?,
                run => write!(f, "{comma}{}-{}", run[0], run[run.len() - 1])?,
            }
        }
        Ok(())
    }
}

/// Which CPU each core runs on. The log thread and the control thread are not pinned: they mostly sleep, and run on any
/// free CPU.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Layout {
    /// The CPU of each shard; never empty.
    pub shards: Vec<usize>,
    /// The CPU of the peer core. `None`: it shares the core of shard 0.
    pub peer: Option<usize>,
}

impl Layout {
    /// Chooses by the setting and by this host.
    pub fn of_host(cores: &Cores) -> io::Result<Result<Layout, CoresError>> {
        let allowed = allowed_cpus()?;
        // This also respects cgroup quotas, which the affinity mask does not show.
        let usable = std::thread::available_parallelism()?.get().min(allowed.len());
        Ok(Layout::of(cores, &physical_first(&allowed, siblings), usable))
    }

    /// Chooses by the setting, by the CPUs allowed (first those that share no physical core), and by how many may be
    /// busy at once.
    fn of(cores: &Cores, allowed: &[usize], usable: usize) -> Result<Layout, CoresError> {
        let cpus = match cores {
            Cores::List(list) => {
                if let Some(&cpu) = list.iter().find(|c| !allowed.contains(c)) {
                    let mut allowed = allowed.to_vec();
                    allowed.sort_unstable();
                    return Err(CoresError::NotAllowed { cpu, allowed });
                }
                list.clone()
            }
            Cores::Auto => {
                // With 1 or 2 CPUs one core runs everything, and the log's syncs run beside it. From 3 on one CPU stays
                // free for the log thread, the control thread and interrupts (most of which arrive at the first CPU): a
                // peer core and 1 shard with 3 CPUs, a peer core and 2 shards with 4, and so on.
                let taken = if usable <= 2 { 1 } else { usable - 1 };
                let free = usize::from(allowed.len() > taken);
                allowed[free..free + taken].to_vec()
            }
        };
        Ok(match cpus[..] {
            [one] => Layout { shards: vec![one], peer: None },
            [peer, ref shards @ ..] => Layout { shards: shards.to_vec(), peer: Some(peer) },
            [] => unreachable!("a list is never empty"),
        })
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.peer {
            Some(peer) => write!(f, "peer core on CPU {peer}, shards on CPU {}", Ranges(&self.shards)),
            None => write!(f, "shard and peer core together on CPU {}", Ranges(&self.shards)),
        }
    }
}

/// The CPUs that this thread may run on, in ascending order.
pub fn allowed_cpus() -> io::Result<Vec<usize>> {
    // SAFETY: all zeroes is an empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: `set` has the size that is passed.
    if unsafe { libc::sched_getaffinity(0, size_of_val(&set), &mut set) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the index is below CPU_SETSIZE.
    Ok((0..libc::CPU_SETSIZE as usize).filter(|&c| unsafe { libc::CPU_ISSET(c, &set) }).collect())
}

/// Restricts the calling thread to `cpus`. Threads inherit this from the thread that starts them, so a thread started
/// by a pinned core must be given all CPUs again.
pub fn pin_current_thread(cpus: &[usize]) -> io::Result<()> {
    if cpus.iter().any(|&c| c >= libc::CPU_SETSIZE as usize) {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    // SAFETY: all zeroes is an empty set, each index is below CPU_SETSIZE, and `set` has the size that is passed.
    let done = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        cpus.iter().for_each(|&c| libc::CPU_SET(c, &mut set));
        libc::sched_setaffinity(0, size_of_val(&set), &set)
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The hyper-threads of `cpu`'s physical core, according to sysfs.
fn siblings(cpu: usize) -> Vec<usize> {
    fs::read_to_string(format!("/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list"))
        .ok()
        .and_then(|s| parse_list(&s))
        .unwrap_or_else(|| vec![cpu])
}

/// The CPUs in this order: one of each physical core, then the second hyper-thread of each, and so on.
fn physical_first(allowed: &[usize], siblings: impl Fn(usize) -> Vec<usize>) -> Vec<usize> {
    let rank = |cpu: usize| siblings(cpu).iter().filter(|s| allowed.contains(s) && **s < cpu).count();
    let mut ranked: Vec<(usize, usize)> = allowed.iter().map(|&c| (rank(c), c)).collect();
    ranked.sort_unstable();
    ranked.into_iter().map(|(_, c)| c).collect()
}

/// A soft limit that was raised to the hard limit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limit {
    /// The value before.
    pub before: u64,
    /// The value now.
    pub now: u64,
}

/// Raises `RLIMIT_NOFILE` to the hard limit. Call it before accepts are armed: an accept keeps the limit of the time it
/// was armed.
pub fn raise_open_files() -> io::Result<Limit> {
    raise(libc::RLIMIT_NOFILE)
}

/// Raises `RLIMIT_MEMLOCK` to the hard limit: each executor needs 512 KiB of locked memory.
pub fn raise_locked_memory() -> io::Result<Limit> {
    raise(libc::RLIMIT_MEMLOCK)
}

fn raise(resource: libc::__rlimit_resource_t) -> io::Result<Limit> {
    let mut l = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `l` is a valid place for the result.
    if unsafe { libc::getrlimit(resource, &mut l) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let before = l.rlim_cur;
    l.rlim_cur = l.rlim_max;
    // SAFETY: the limit is valid and not above the hard one.
    if before != l.rlim_max && unsafe { libc::setrlimit(resource, &l) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(Limit { before, now: l.rlim_max })
}

/// Lowers the priority of the calling thread, whose work is less urgent than that of the cores and the log.
pub fn let_others_go_first() {
    const NICE: i32 = 10;
    // SAFETY: no pointers; on Linux 0 means the calling thread. The call can only fail because of a seccomp filter;
    // then the priority stays as it was.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICE) };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::in_own_process;

    fn auto(n: usize) -> String {
        let all: Vec<usize> = (0..n).collect();
        Layout::of(&Cores::Auto, &all, n).unwrap().to_string()
    }

    #[test]
    fn auto_fits_the_host() {
        assert_eq!(auto(1), "shard and peer core together on CPU 0");
        assert_eq!(auto(2), "shard and peer core together on CPU 1");
        assert_eq!(auto(3), "peer core on CPU 1, shards on CPU 2");
        assert_eq!(auto(4), "peer core on CPU 1, shards on CPU 2-3");
        assert_eq!(auto(16), "peer core on CPU 1, shards on CPU 2-15");
        // A quota of 2 CPUs on a large host; a cpuset that is not contiguous.
        let l = Layout::of(&Cores::Auto, &(0..64).collect::<Vec<_>>(), 2).unwrap();
        assert_eq!(l, Layout { shards: vec![1], peer: None });
        let l = Layout::of(&Cores::Auto, &[3, 9, 11, 40], 4).unwrap();
        assert_eq!(l, Layout { shards: vec![11, 40], peer: Some(9) });
    }

    #[test]
    fn hyper_threads_of_one_core_are_not_all_taken_first() {
        let pairs = |c: usize| vec![c % 4, c % 4 + 4];
        assert_eq!(physical_first(&[0, 1, 2, 3, 4, 5, 6, 7], pairs), [0, 1, 2, 3, 4, 5, 6, 7]);
        let neighbours = |c: usize| vec![c & !1, c | 1];
        assert_eq!(physical_first(&[0, 1, 2, 3], neighbours), [0, 2, 1, 3]);
        assert_eq!(physical_first(&[1, 2, 3], neighbours), [1, 2, 3]);
    }

    #[test]
    fn lists_are_read_and_refused_with_a_reason() {
        assert_eq!(" auto ".parse(), Ok(Cores::Auto));
        assert_eq!("0-2, 8".parse(), Ok(Cores::List(vec![0, 1, 2, 8])));
        assert_eq!("5".parse(), Ok(Cores::List(vec![5])));
        for bad in ["", "a", "1-", "-1", "3-1", "1,,2", "0-4000000000", "99999999999999999999"] {
            assert_eq!(bad.parse::<Cores>(), Err(CoresError::Syntax(bad.to_owned())));
        }
        assert_eq!("1,0-2".parse::<Cores>(), Err(CoresError::Twice(1)));
        let list = |s: &str| Layout::of(&s.parse().unwrap(), &[0, 2, 1, 3], 4);
        assert_eq!(list("3,1").unwrap(), Layout { shards: vec![1], peer: Some(3) });
        assert_eq!(list("2").unwrap(), Layout { shards: vec![2], peer: None });
        let said = list("2-4").unwrap_err().to_string();
        assert!(said.starts_with("cores: CPU 4 is not available to this process (available: 0-3;"), "{said}");
    }

    #[test]
    fn this_host_has_a_layout_and_its_cpus_can_be_pinned_to() {
        let layout = Layout::of_host(&Cores::Auto).unwrap().unwrap();
        let cpu = layout.shards[0];
        std::thread::spawn(move || {
            pin_current_thread(&[cpu]).unwrap();
            assert_eq!(allowed_cpus().unwrap(), [cpu]);
        })
        .join()
        .unwrap();
        assert_eq!(pin_current_thread(&[1 << 20]).unwrap_err().raw_os_error(), Some(libc::EINVAL));
    }

    #[test]
    fn limits_are_raised_to_the_hard_ones() {
        in_own_process!("raised");
    }

    #[test]
    #[ignore = "run by limits_are_raised_to_the_hard_ones"]
    fn raised() {
        let low = libc::rlimit { rlim_cur: 64, rlim_max: 128 };
        // SAFETY: a valid limit.
        assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &low) }, 0);
        assert_eq!(raise_open_files().unwrap(), Limit { before: 64, now: 128 });
        assert_eq!(raise_open_files().unwrap(), Limit { before: 128, now: 128 });
        raise_locked_memory().unwrap();
    }
}
