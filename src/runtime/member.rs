//! What a member of an ensemble has besides the parts of a standalone server.

use crossbeam::channel;

use super::data_dirs::open_dir;
use super::disk::FsDir;
use super::log_thread::DiskWork;
use super::mailbox::{Bell, Sender};
use super::peer_net::PeerNet;
use super::shared::PeerMail;
use super::start_error::StartError;
use super::{feeder, settings};
use crate::config::{Config, ExitCode};
use crate::limits;
use crate::peer::disk::DiskJobs;
use crate::peer::feed::FeedWant;
use crate::peer::{EnsembleOptions, Input};
use crate::txnlog::feed::Feeder;
use crate::txnlog::writer::LogWriter;

/// How the peer of a member reaches others.
pub(super) struct MemberLinks {
    /// The other servers.
    pub(super) net: PeerNet,
    /// The thread that reads the disk for learners.
    pub(super) feeds: channel::Sender<FeedWant>,
}

/// The parts of a member: for its peer, and for the log's thread, which does more than append. `bell` wakes the core of its peer, `peer` is the mailbox there.
///
/// # Errors
/// A directory cannot be opened once more, or a thread cannot be created.
pub(super) fn start(
    config: &Config,
    ensemble: &EnsembleOptions,
    bell: Bell,
    peer: Sender<PeerMail>,
) -> Result<(MemberLinks, DiskWork<LogWriter<FsDir>>), StartError> {
    let snap = || open_dir(&config.data_dir.join("version-2"), config);
    let log = open_dir(&config.data_log_dir.join("version-2"), config)?;
    let (feeds, wants) = feeder::channel();
    let tell = move |answer| peer.send(PeerMail::Input(Input::Fed(answer)));
    feeder::start(Feeder::new(snap()?, log, limits::LEARNER_CHUNK), wants, tell)
        .map_err(|e| StartError::new(ExitCode::Unexpected, e))?;
    let mut jobs = DiskJobs::new(snap()?, settings::tree(config), settings::recovery(config, false));
    let net = PeerNet::new(settings::peer_net(config, ensemble), bell);
    Ok((MemberLinks { net, feeds }, Box::new(move |request, log| jobs.perform(request, log))))
}
