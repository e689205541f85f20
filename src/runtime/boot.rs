//! Starts a server from a configuration, and stops it. Mirrors `ZooKeeperServerMain.runFromConfig`.

use std::cell::Cell;
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use crossbeam::channel;
use crossbeam::utils::CachePadded;

use super::admin::Startup;
use super::clock::Clock;
use super::conn_limits::ConnLimits;
use super::core::Core;
use super::core_threads::{self, CoreThread, CoreThreads, Parts};
use super::cores::{self, Layout};
use super::data_dirs::{check_writable, lock, open_dir};
use super::disk::FsDir;
use super::log_thread::{LogMail, LogThread};
use super::mailbox::{self, Bell};
use super::net::{self, Backend, Choice, ListenAddr};
use super::peer_core::PeerCore;
use super::shard_core::ShardCore;
use super::shared::{PeerCommand, PeerMail, ShardCommand, ShardMail, Shared, WordRequest};
use super::signals::{Request, Signals};
use super::start_error::StartError;
use super::tree_cell::TreeCell;
use super::{housekeeping, logging, member, settings, snapshot_thread, thread_dump};
use crate::config::{self, Config, ExitCode};
use crate::peer::{Found, Peer};
use crate::shard::Shard;
use crate::tree::Tree;
use crate::txnlog::epoch::{self, EpochError};
use crate::txnlog::names::parse_snapshot_name;
use crate::txnlog::recovery::{Logged, RecoveryError, Report};
use crate::txnlog::restore::recover_tree_in_steps;
use crate::txnlog::snapshotter::{Snapshotter, file_len, first_snapshot};
use crate::txnlog::writer::{LogWriter, SnapshotRoom};
use crate::types::{Now, SessionId, ShardId, Zxid};
use crate::watch::interest::MAX_SHARDS;
use crate::watch::{Interest, WatchTable};

/// Runs a server until it is told to stop. If it cannot start, the reason is printed to standard error.
pub fn run(config: Config) -> ExitCode {
    let code = match serve(config) {
        Ok(()) => ExitCode::Finished,
        Err(e) => {
            logging::say(&format!("zabra: {}\n", e.message));
            e.code
        }
    };
    logging::finish();
    code
}

/// The result of recovery.
struct Loaded {
    tree: Tree,
    sessions: Vec<(SessionId, i32)>,
    replayed: u64,
    digests: Vec<(Zxid, u64)>,
    took: Startup,
    room: SnapshotRoom,
    /// What a member of an ensemble found besides; `None`: a standalone server.
    found: Option<Found>,
}

fn serve(config: Config) -> Result<(), StartError> {
    let signals = Signals::install().map_err(|e| StartError::new(ExitCode::Unexpected, format!("signals: {e}")))?;
    for (what, raised) in [("open files", cores::raise_open_files()), ("locked memory", cores::raise_locked_memory())] {
        if let Err(e) = raised {
            tracing::warn!("the limit of {what} cannot be raised: {e}");
        }
    }
    let io = choose_io(&config)?;
    let layout = layout(&config)?;
    let (snap_dir, log_dir) = (config.data_dir.join("version-2"), config.data_log_dir.join("version-2"));
    let began = Clock::now();
    let mut snap = open_dir(&snap_dir, &config)?;
    let mut log = open_dir(&log_dir, &config)?;
    let _locks = lock(&config)?;
    check_writable(&snap, &log, &config)?;
    let mut loaded = load(&config, &mut snap, &mut log)?;
    loaded.took.load_ms.record(millis_since(began));
    tracing::info!(
        znodes = loaded.tree.node_count(),
        sessions = loaded.sessions.len(),
        replayed = loaded.replayed,
        took_ms = loaded.took.load_ms.tally().sum,
        "loaded"
    );
    let listeners = bind(&config, layout.shards.len())?;
    signals.serving();
    let server = Server::start(config, io, layout, loaded, snap, log, listeners)?;
    if let Err(e) = server.announce() {
        server.stop();
        return Err(StartError::new(ExitCode::Unexpected, e));
    }
    while signals.next() == Request::ShowState {
        thread_dump::log(&server.shared);
    }
    server.stop();
    Ok(())
}

/// Chooses io_uring or epoll according to `zabra.io`, and logs the choice in one line.
fn choose_io(config: &Config) -> Result<Choice, StartError> {
    let choice = net::choose(settings::io(config)).map_err(|e| {
        StartError::new(ExitCode::IoUring, format!("{e}. With zabra.io=auto or zabra.io=epoll the server does without"))
    })?;
    match &choice.refused {
        None => tracing::info!("sockets are on {}", choice.backend),
        Some(why) => tracing::info!("sockets are on epoll, because io_uring cannot be used: {why}"),
    }
    Ok(choice)
}

/// Starts the threads of the cores. If something only shows now that the probe could not see (locked memory suffices
/// for one core but not for all), epoll is used.
fn start_cores(config: &Config, io: &Choice, cpus: &[usize]) -> Result<CoreThreads, StartError> {
    let pinned = is_pinned(config, cpus);
    let error = match core_threads::start(io.backend, cpus, pinned) {
        Ok(cores) => return Ok(cores),
        Err(e) => e,
    };
    if io.backend == Backend::Uring && settings::io(config).is_none() {
        tracing::info!("sockets are on epoll after all, because {} cores cannot use io_uring: {error}", cpus.len());
        return core_threads::start(Backend::Epoll, cpus, pinned).map_err(|e| StartError::new(ExitCode::Unexpected, e));
    }
    let code = if io.backend == Backend::Uring { ExitCode::IoUring } else { ExitCode::Unexpected };
    Err(StartError::new(code, error))
}

fn layout(config: &Config) -> Result<Layout, StartError> {
    let found = Layout::of_host(&settings::cores(config));
    let found = found.map_err(|e| StartError::new(ExitCode::Unexpected, format!("cannot see the CPUs: {e}")))?;
    let mut layout = found.map_err(|e| StartError::new(ExitCode::InvalidInvocation, format!("zabra.cores: {e}")))?;
    if config.host.shards > 0 {
        // If there are more shards than CPUs, they share CPUs; if fewer, some CPUs stay idle.
        let cpus = layout.shards.clone();
        layout.shards = cpus.iter().copied().cycle().take(config.host.shards).collect();
    }
    layout.shards.truncate(MAX_SHARDS);
    Ok(layout)
}

fn load(config: &Config, snap: &mut FsDir, log: &mut FsDir) -> Result<Loaded, StartError> {
    let marks = [config.data_dir.join("initialize"), config.data_log_dir.join("initialize")];
    let initialize = marks.iter().any(|m| m.exists());
    let tree_options = settings::tree(config);
    let mut took = Startup::default();
    let began = Clock::now();
    let replaying = Cell::new(None);
    let snapshot_loaded = || replaying.set(Some(Clock::now()));
    let recovery = settings::recovery(config, initialize);
    let recovered =
        recover_tree_in_steps(snap, log, tree_options, recovery, &snapshot_loaded).map_err(|e| recovery_failed(&e))?;
    let replayed = recovered.report.replayed;
    if replayed > 0 {
        took.replayed.record(replayed);
        took.log_load_ms.record(millis_since(replaying.get().unwrap_or(began)));
    }
    took.snapshot_load_ms.record(replaying.get().map_or(0, |at| (at.mono_ms - began.mono_ms).max(0) as u64));
    report(&recovered.report);
    // A member without a history does not vote before a leader has sent it one.
    if recovered.last == Zxid::NONE && !config.is_member() {
        return Err(StartError::new(
            ExitCode::DataDir,
            format!(
                "{}: empty, and zookeeper.db.autocreate is false: create the file `initialize` there to begin a new database",
                config.data_dir.display()
            ),
        ));
    }
    let mut sessions: Vec<(SessionId, i32)> = recovered.sessions.into_iter().collect();
    sessions.sort_unstable();
    let mut tree = recovered.state;
    refuse_unsound(&tree)?;
    if let Some(members) = config.ensemble.members.as_ref().filter(|_| config.is_member()) {
        // No transaction: every member writes it for itself.
        tree.set_config(members.text().as_bytes(), members.version(), Clock::now().wall_ms, &mut |_| {});
    }
    if recovered.fresh && recovered.last != Zxid::NONE {
        // Apache does not start from logs without any snapshot, so write one now; otherwise there would be no way back
        // to Apache.
        let began = Clock::now();
        first_snapshot(snap, &tree, settings::snapshot(config))
            .map_err(|e| StartError::new(ExitCode::TxnLog, format!("the first snapshot cannot be written: {e}")))?;
        took.first_snapshot_ms.record(millis_since(began));
    }
    for mark in marks.iter().filter(|m| m.exists()) {
        std::fs::remove_file(mark)
            .map_err(|e| StartError::new(ExitCode::DataDir, format!("{}: {e}", mark.display())))?;
    }
    let room = snapshot_room(snap, log, &recovered.report).map_err(|e| StartError::new(ExitCode::DataDir, e))?;
    let digests = recovered.report.logged_digests.iter().copied().collect();
    let found = match config.is_member() {
        true => Some(found(snap, recovered.last, &recovered.report, recovered.tail)?),
        false => None,
    };
    Ok(Loaded { tree, sessions, replayed, digests, took, room, found })
}

/// What a member of an ensemble enters its first election with.
fn found(snap: &mut FsDir, last: Zxid, report: &Report, recent: VecDeque<Logged>) -> Result<Found, StartError> {
    let epochs = epoch::load(snap, last).map_err(|e| {
        let code = if matches!(e, EpochError::Io { .. }) { ExitCode::DataDir } else { ExitCode::Corrupt };
        StartError::new(code, e)
    })?;
    let chain = report.snapshot.as_deref().and_then(parse_snapshot_name).map_or(Zxid::ZERO, |(zxid, _)| zxid);
    tracing::info!(%last, accepted = epochs.accepted.0, current = epochs.current.0, "the history of this member");
    Ok(Found { epochs, recent, chain })
}

/// The space that the log has to leave for the next snapshot.
fn snapshot_room(snap: &FsDir, log: &FsDir, report: &Report) -> io::Result<SnapshotRoom> {
    if !snap.shares_a_disk_with(log)? {
        return Ok(SnapshotRoom::default());
    }
    let newest = report.snapshot.as_ref().map_or(Ok(0), |name| file_len(snap, name))?;
    Ok(SnapshotRoom::new(newest, report.log_bytes))
}

fn millis_since(began: Now) -> u64 {
    (Clock::now().mono_ms - began.mono_ms).max(0) as u64
}

fn recovery_failed(e: &RecoveryError) -> StartError {
    let code = match e {
        RecoveryError::Io { .. } | RecoveryError::SnapshotsInLogDir { .. } | RecoveryError::LogsInSnapDir { .. } => {
            ExitCode::DataDir
        }
        _ => ExitCode::Corrupt,
    };
    StartError::new(code, e)
}

fn report(r: &Report) {
    for (file, why) in &r.bad_snapshots {
        tracing::warn!(file, why, "a snapshot cannot be used; an older one is");
    }
    for c in &r.cuts {
        tracing::warn!(file = c.file, at = c.at, bytes = c.bytes, damage = %c.damage, "cut off what a crash had torn");
    }
    if r.digest_mismatch_count > 0 {
        tracing::error!(count = r.digest_mismatch_count, first = ?r.digest_mismatches.first(),
            "replayed transactions do not give the digest that their log says");
    }
}

/// Refuses a tree that this configuration would damage.
fn refuse_unsound(tree: &Tree) -> Result<(), StartError> {
    if let Some(path) = tree.suspicious_owners().next() {
        return Err(StartError::new(
            ExitCode::InvalidInvocation,
            format!(
                "{path} is a TTL node, but zookeeper.extendedTypesEnabled is not true: it would be taken for an \
                     ephemeral of a dead session and deleted. Set extendedTypesEnabled=true"
            ),
        ));
    }
    let unresolved = tree.unresolved_acls();
    if let Some(path) = unresolved.first() {
        return Err(StartError::new(
            ExitCode::Corrupt,
            format!("{path} ({} znodes in all) refers to an ACL that the snapshot does not hold", unresolved.len()),
        ));
    }
    Ok(())
}

fn bind(config: &Config, shards: usize) -> Result<Vec<std::net::TcpListener>, StartError> {
    let (mut addr, options) = settings::listen(config, shards);
    let mut listeners = Vec::new();
    for _ in 0..shards {
        let l = net::listen(addr, &options).map_err(|e| StartError::new(ExitCode::Bind, e))?;
        if let (Ok(at), 0) = (l.local_addr(), config.client.port) {
            // The operating system chose the port; the other shards use the same.
            addr = match addr {
                ListenAddr::Any(_) => ListenAddr::Any(at.port()),
                ListenAddr::At(_) => ListenAddr::At(at),
            };
        }
        listeners.push(l);
    }
    Ok(listeners)
}

/// A running server.
struct Server {
    config: Arc<Config>,
    shared: Arc<Shared>,
    cores: Vec<CoreThread>,
    snapshots: std::thread::JoinHandle<()>,
    address: String,
}

impl Server {
    fn start(
        config: Config,
        io: Choice,
        layout: Layout,
        loaded: Loaded,
        snap: FsDir,
        log: FsDir,
        listeners: Vec<std::net::TcpListener>,
    ) -> Result<Server, StartError> {
        let config = Arc::new(config);
        let address = listeners.first().and_then(|l| l.local_addr().ok()).map_or(String::new(), |a| a.to_string());
        let all_cpus = cores::allowed_cpus().map_err(|e| StartError::new(ExitCode::Unexpected, e))?;
        let shards = layout.shards.len();
        let cpus: Vec<usize> = layout.shards.iter().copied().chain(layout.peer).collect();
        let CoreThreads { threads, parts: handles, wakers } = start_cores(&config, &io, &cpus)?;
        let (shard_mail, mut inboxes): (Vec<_>, Vec<_>) =
            wakers[..shards].iter().map(|w| mailbox::mailbox::<ShardMail>(Bell::Core(w.clone()))).unzip();
        let peer_core = layout.peer.map_or(0, |_| shards);
        let (peer_mail, peer_inbox) = mailbox::mailbox::<PeerMail>(Bell::Core(wakers[peer_core].clone()));
        let (words_tx, words) = channel::unbounded::<WordRequest>();
        let interest = Arc::new(Interest::new());
        let now = Clock::now();
        let bell = Bell::Core(wakers[peer_core].clone());
        let ensemble = settings::ensemble(&config);
        let start = |ensemble| member::start(&config, ensemble, bell, peer_mail.clone());
        let (links, work) = ensemble.as_ref().map(start).transpose()?.unzip();
        let options = settings::peer(&config, shards);
        let mut peer = match ensemble.zip(loaded.found) {
            Some((ensemble, found)) => Peer::member(options, ensemble, found, &loaded.tree, &loaded.sessions, now)
                .with_local_sessions(settings::local_sessions(&config), now),
            None => Peer::new(options, &loaded.tree, &loaded.sessions, now),
        };
        peer.remember_digests(&loaded.digests);
        let last = loaded.tree.last_zxid();
        let startup = loaded.took;
        let shared = Arc::new(Shared {
            tree: TreeCell::new(loaded.tree, shards, interest.clone()),
            turns: (0..cpus.len()).map(|_| CachePadded::new(AtomicU64::new(0))).collect(),
            shards: shard_mail,
            peer_core,
            peer: peer_mail,
            conn_limits: ConnLimits::new(
                config.client.max_per_ip.max(0) as u32,
                config.client.max_total.max(0) as usize,
            ),
            words: words_tx,
        });
        let (parts_tx, parts_rx) = snapshot_thread::channel();
        let thread_error = |e| StartError::new(ExitCode::Unexpected, e);
        let (snapshotter, writer) = writers(&config, snap, log, last, loaded.room)?;
        let snapshots = snapshot_thread::start(snapshotter, shared.clone(), parts_rx).map_err(thread_error)?;
        let (log_events, events) = mailbox::mailbox::<LogMail>(Bell::Core(wakers[peer_core].clone()));
        let log_options = settings::log_thread(&config, loaded.replayed, all_cpus);
        let log = LogThread::start(writer, work, log_options, log_events).map_err(thread_error)?;
        let mut peer = Some(PeerCore::new(peer, last, peer_inbox, (log, events), parts_tx, links));
        let throttles = settings::throttles(&config, shards, now, fastrand::u64(..));
        let mut listeners = listeners.into_iter();
        for (number, handle) in handles.into_iter().enumerate().rev() {
            let shard = (number < shards).then(|| {
                let id = ShardId(number as u32);
                let table = WatchTable::new(id, interest.clone());
                let options = settings::shard(&config, id, shards, throttles.clone());
                let inbox = inboxes.pop().expect("a mailbox for each shard");
                ShardCore::new(id, Shard::new(options, table), inbox)
            });
            let listener = if number < shards { listeners.next() } else { None };
            let peer = if number == peer_core { peer.take() } else { None };
            let shared = shared.clone();
            let parts: Parts = Box::new(move |net| Core::new(number, net, listener, shard, peer, shared));
            handle
                .send(parts)
                .map_err(|_| StartError::new(ExitCode::Unexpected, format!("core {number} has ended")))?;
        }
        housekeeping::start(config.clone(), shared.clone(), words, startup)?;
        Ok(Server { config, shared, cores: threads, snapshots, address })
    }

    /// Says that it serves; a member of an ensemble says that it has started, since it serves only with a leader.
    ///
    /// # Errors
    /// No thread can be had for that.
    fn announce(&self) -> io::Result<()> {
        let dir = self.config.data_dir.display();
        let (version, at) = (env!("CARGO_PKG_VERSION"), &self.address);
        let what = match self.config.ensemble.members.as_ref().filter(|_| self.config.is_member()) {
            Some(members) => format!("member {} of {}, clients on", settings::me(&self.config).0, members.iter().len()),
            None => "serving clients on".to_owned(),
        };
        logging::announce(format!("zabra {version}: {what} {at}, data in {dir}"))
    }

    /// Stops: nothing more is accepted or answered, what was appended is synced, and sessions live on until the next
    /// start.
    fn stop(self) {
        tracing::info!("stopping");
        self.shared.command_shards(|| ShardCommand::Stop);
        self.shared.command_peer(PeerCommand::Stop);
        for core in self.cores {
            if let Err(e) = core.join() {
                tracing::warn!("a core ended badly: {e}");
            }
        }
        // The peer core has ended and with it the sender, so the thread ends when it has done the rest.
        if self.snapshots.join().is_err() {
            tracing::warn!("the snapshot thread ended badly");
        }
    }
}

/// What writes snapshots, and what writes the log of a history that ends at `last`.
fn writers(
    config: &Config,
    snap: FsDir,
    log: FsDir,
    last: Zxid,
    room: SnapshotRoom,
) -> Result<(Snapshotter<FsDir>, LogWriter<FsDir>), StartError> {
    let options = settings::log(config);
    if !options.keeps {
        tracing::info!("syncEnabled=false: this observer has no log, and its next start finds its last snapshot");
    }
    let snapshotter = Snapshotter::new(snap, settings::snapshot(config)).sharing(room.clone());
    // Without a history nothing is appended before a leader's snapshot has replaced it.
    let writer = LogWriter::new(log.with_segments_ahead()?, last.max(Zxid::ZERO), options).leaving(room);
    Ok((snapshotter.raising_epoch(!options.keeps), writer))
}

/// Whether cores are pinned. A single core without configured CPUs is not: on a small host the clients, the log thread
/// and other processes use the same CPUs, and a pinned core would wait for its own while another is idle
/// (`tuning/README.md`).
fn is_pinned(config: &Config, cpus: &[usize]) -> bool {
    cpus.len() > 1 || config.host.cores != config::Cores::Auto
}
