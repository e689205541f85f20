//! Members whose disk is full: they end, the others go on, and they come back when there is room.

use std::fs;
use std::process::ExitStatus;
use std::thread;
use std::time::Duration;

use zabra::types::Op;

use super::super::small_disk::SmallDisk;
use super::super::wire::{Client, set_body};
use super::load::Load;
use super::{Ensemble, QUICK, sync};

/// The exit code of a server that cannot write its log.
const TXN_LOG: i32 = 10;

/// Rounds that every writer makes between two failures.
const ROUNDS: usize = 20;

/// Three members, each with a disk of its own.
struct Three {
    ensemble: Ensemble,
    disks: Vec<SmallDisk>,
    /// Sets of `/big` that were acknowledged, at least.
    acknowledged: i32,
}

impl Three {
    /// Writes much through member `through` until member `id`, whose disk takes nothing any more, has ended.
    fn fill(&mut self, id: usize, through: usize) -> ExitStatus {
        let data = vec![b'x'; 50_000];
        let mut client = None::<Client>;
        loop {
            if let Some(status) = self.ensemble.take_ended(id) {
                return status;
            }
            let answer = match &mut client {
                Some(client) => client.try_call(Op::SET_DATA, &set_body("/big", &data, -1)),
                None => match self.ensemble.try_client(through) {
                    Ok(new) => {
                        client = Some(new);
                        continue;
                    }
                    Err(e) => Err(e),
                },
            };
            match answer {
                Ok(reply) => {
                    assert_eq!(reply.err, 0);
                    self.acknowledged += 1;
                }
                // There is no leader for a while.
                Err(_) => {
                    client = None;
                    thread::sleep(Duration::from_millis(10));
                }
            }
        }
    }

    /// Fills a member's disk; it ends. What was acknowledged is there, and the others serve, then all do.
    fn fails_and_comes_back(&mut self, id: usize, through: usize, load: &Load) {
        let fill = self.disks[id - 1].fill();
        let status = self.fill(id, through);
        assert_eq!(status.code(), Some(TXN_LOG), "member {id}: {status}");
        load.goes_on(ROUNDS);
        fs::remove_file(fill).expect("removed");
        self.ensemble.start(id);
        self.ensemble.all_serve();
        load.goes_on(ROUNDS);
        for id in self.ensemble.ids() {
            let mut client = self.ensemble.client(id);
            sync(&mut client);
            let version = client.get("/big", false).expect("there").1.version;
            assert!(version >= self.acknowledged, "member {id}: {version} of {}", self.acknowledged);
            client.close();
        }
    }
}

#[test]
fn a_full_disk_of_follower_and_leader_loses_nothing() {
    let base = tempfile::tempdir().expect("a directory");
    let mount = |id: usize| SmallDisk::mount(&base.path().join(id.to_string()), "size=60m");
    let Some(disks) = (1..=3).map(mount).collect::<Option<Vec<_>>>() else { return };
    let mut ensemble = Ensemble::placed(3, QUICK, |id, home| home.data_in(disks[id - 1].join("data")));
    ensemble.ids().for_each(|id| ensemble.start(id));
    ensemble.all_serve();
    let load = Load::on(&ensemble);
    let leader = ensemble.leader();
    ensemble.client(leader).create("/big", b"").expect("new");
    let mut three = Three { ensemble, disks, acknowledged: 0 };

    let leader = three.ensemble.leader();
    let follower = three.ensemble.follower();
    three.fails_and_comes_back(follower, leader, &load);

    let leader = three.ensemble.leader();
    let follower = three.ensemble.follower();
    three.fails_and_comes_back(leader, follower, &load);
    load.check(&mut three.ensemble);
    // The members end before their disks are unmounted.
    drop(three.ensemble);
}
