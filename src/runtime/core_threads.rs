//! The threads of the cores: each is a glommio executor if io_uring is used, else a plain pinned thread. Both run the
//! same turns.

use std::io;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam::channel;
use glommio::{CpuSet, ExecutorJoinHandle, LocalExecutorBuilder, Placement, PoolPlacement};

use super::core::Core;
use super::cores;
use super::net::{Backend, Net, NetError, NetOptions, Waker};
use super::threads;
use crate::config::ExitCode;

/// What a core's thread waits for: the function that makes its parts, which needs the wakers of all cores.
pub(super) type Parts = Box<dyn FnOnce(Net) -> io::Result<Core> + Send>;

/// A core's thread.
pub(super) enum CoreThread {
    Glommio(ExecutorJoinHandle<()>),
    Plain(JoinHandle<()>),
}

impl CoreThread {
    /// Waits for the thread to end. The error says what went wrong in it.
    pub(super) fn join(self) -> Result<(), String> {
        match self {
            CoreThread::Glommio(thread) => thread.join().map(drop).map_err(|e| e.to_string()),
            CoreThread::Plain(thread) => thread.join().map_err(|_| "it panicked".to_owned()),
        }
    }
}

/// The threads of the cores, the channels on which they receive their parts, and their wakers.
pub(super) struct CoreThreads {
    pub(super) threads: Vec<CoreThread>,
    pub(super) parts: Vec<channel::Sender<Parts>>,
    pub(super) wakers: Vec<Waker>,
}

/// Starts one thread per CPU with its sockets' back end. A thread ends if the sender of its parts is dropped.
///
/// # Errors
/// The back end or a thread could not be created.
pub(super) fn start(backend: Backend, cpus: &[usize], pinned: bool) -> Result<CoreThreads, NetError> {
    let mut cores = CoreThreads { threads: Vec::new(), parts: Vec::new(), wakers: Vec::new() };
    for (number, &cpu) in cpus.iter().enumerate() {
        let (parts_tx, parts) = channel::bounded::<Parts>(1);
        let (waker_tx, waker) = channel::bounded(1);
        let name = format!("core-{number}");
        let cpu = pinned.then_some(cpu);
        let thread = match backend {
            Backend::Uring => glommio_thread(&name, cpu, waker_tx, parts)?,
            Backend::Epoll => plain_thread(name, cpu, waker_tx, parts)?,
        };
        let Ok(waker) = waker.recv() else {
            let why = thread.join().err().unwrap_or_else(|| "it ended before it began".to_owned());
            return Err(NetError::of_executor(io::Error::other(why)));
        };
        cores.wakers.push(waker?);
        cores.threads.push(thread);
        cores.parts.push(parts_tx);
    }
    Ok(cores)
}

type WakerSender = channel::Sender<Result<Waker, NetError>>;

fn glommio_thread(
    name: &str,
    cpu: Option<usize>,
    waker: WakerSender,
    parts: channel::Receiver<Parts>,
) -> Result<CoreThread, NetError> {
    if cpu.is_some() {
        // The builder asks for it as well, and panics without it.
        CpuSet::online().map_err(|e| NetError::of_executor(e.into()))?;
    }
    let builder = LocalExecutorBuilder::new(cpu.map_or(Placement::Unbound, Placement::Fixed))
        .name(name)
        .blocking_thread_pool_placement(no_helpers())
        // Client sockets use our own ring; this one only has timers.
        .ring_depth(64)
        .io_memory(256 << 10)
        .preempt_timer(Duration::from_millis(50));
    let spawned = builder.spawn(move || async move {
        if let Some(core) = assemble(Backend::Uring, &waker, &parts) {
            core.run_on_glommio().await;
        }
    });
    spawned.map(CoreThread::Glommio).map_err(|e| NetError::of_executor(e.into()))
}

/// glommio gives each executor a thread for system calls that block, and panics when none can be had. A core makes no such call.
pub(super) fn no_helpers() -> PoolPlacement {
    PoolPlacement::Custom(Vec::new())
}

fn plain_thread(
    name: String,
    cpu: Option<usize>,
    waker: WakerSender,
    parts: channel::Receiver<Parts>,
) -> Result<CoreThread, NetError> {
    let run = move || {
        if let Some(cpu) = cpu
            && let Err(error) = cores::pin_current_thread(&[cpu])
        {
            // Whoever started this core waits for the result.
            let _ = waker.send(Err(NetError::Io { call: "sched_setaffinity", error }));
            return;
        }
        if let Some(core) = assemble(Backend::Epoll, &waker, &parts) {
            core.run();
        }
    };
    let spawned = threads::start(&name, run);
    spawned.map(CoreThread::Plain).map_err(|error| NetError::Io { call: "starting a thread", error })
}

/// Runs on the core's thread: creates its sockets, then the parts, which come when all cores have their sockets. `None`
/// if none come.
fn assemble(backend: Backend, waker: &WakerSender, parts: &channel::Receiver<Parts>) -> Option<Core> {
    let net = match Net::new(backend, &NetOptions::default()) {
        Ok(net) => net,
        Err(e) => {
            // Whoever started this core waits for the result.
            let _ = waker.send(Err(e));
            return None;
        }
    };
    let _ = waker.send(Ok(net.waker()));
    // No parts come if another core could not be started.
    let parts = parts.recv().ok()?;
    match parts(net) {
        Ok(core) => Some(core),
        Err(e) => super::fatal::fatal(ExitCode::Bind, format!("a core cannot accept clients: {e}")),
    }
}
