//! What a member of an ensemble has besides the parts of a standalone server.

use super::boot::open_dir;
use super::log_thread::DiskWork;
use super::mailbox::Bell;
use super::peer_net::PeerNet;
use super::settings;
use super::start_error::StartError;
use crate::config::Config;
use crate::peer::disk::DiskJobs;
use crate::runtime::disk::FsDir;
use crate::txnlog::writer::LogWriter;
use crate::types::ServerId;

/// See the module.
pub(super) struct Member {
    /// Its connections to the others.
    pub(super) net: PeerNet,
    /// What the log's thread does besides appending.
    pub(super) work: DiskWork<LogWriter<FsDir>>,
}

/// The parts of member `me`, or `None` if this server is none. `bell` wakes the peer's core.
///
/// # Errors
/// The directory of the snapshots cannot be opened once more.
pub(super) fn new(config: &Config, me: ServerId, bell: Bell) -> Result<Option<Member>, StartError> {
    let Some(ensemble) = settings::ensemble(config) else { return Ok(None) };
    let net = PeerNet::new(settings::peer_net(config, me, &ensemble), bell);
    let snap = open_dir(&config.data_dir.join("version-2"), config)?;
    let mut jobs = DiskJobs::new(snap, settings::tree(config), settings::recovery(config, false));
    Ok(Some(Member { net, work: Box::new(move |request, log| jobs.perform(request, log)) }))
}
