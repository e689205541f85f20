//! Tests with an independent client library (`zookeeper-client`) and a real server.

use std::time::Duration;

use zookeeper_client::{
    Acl, Acls, AddWatchMode, AuthId, Client, CreateMode, CreateOptions, Error, EventType, MultiReadResult,
    MultiWriteError, MultiWriteResult, Permission,
};

use super::server::{Home, PATIENCE, Server};

const OPEN: Acls<'static> = Acls::anyone_all();
const PERSISTENT: &CreateOptions<'static> = &CreateMode::Persistent.with_acls(OPEN);
const EPHEMERAL: &CreateOptions<'static> = &CreateMode::Ephemeral.with_acls(OPEN);

/// Runs a scenario with a time limit.
pub fn run<T>(scenario: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async { within(scenario).await })
}

/// Waits for a future with a time limit.
pub async fn within<T>(something: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, something).await.expect("it comes in time")
}

pub async fn connect(server: &Server) -> Client {
    connect_for(server, Duration::from_secs(300)).await
}

pub async fn connect_for(server: &Server, timeout: Duration) -> Client {
    let connector = Client::connector().with_session_timeout(timeout);
    connector.connect(&server.addr().to_string()).await.expect("a session")
}

#[test]
fn create_modes() {
    let home = Home::new("extendedTypesEnabled=true");
    let server = home.start();
    run(async {
        let client = connect(&server).await;
        let (stat, _) = client.create("/a", b"data", PERSISTENT).await.expect("new");
        assert_eq!((stat.version, stat.data_length, stat.ephemeral_owner), (0, 4, 0));
        assert_eq!(client.create("/a", b"", PERSISTENT).await, Err(Error::NodeExists));
        assert_eq!(client.create("/none/b", b"", PERSISTENT).await.err(), Some(Error::NoNode));
        let (stat, _) = client.create("/a/e", b"", EPHEMERAL).await.expect("new");
        assert_eq!(stat.ephemeral_owner, client.session_id().0);
        assert_eq!(client.create("/a/e/f", b"", PERSISTENT).await.err(), Some(Error::NoChildrenForEphemerals));
        let sequential = CreateMode::PersistentSequential.with_acls(OPEN);
        for expected in 1..4 {
            let (_, sequence) = client.create("/a/s-", b"", &sequential).await.expect("new");
            assert_eq!(sequence.into_i64(), expected, "the ephemeral child counted too");
        }
        // Deleting a znode does not make its number available again.
        client.delete("/a/s-0000000003", None).await.expect("there");
        let ephemeral = CreateMode::EphemeralSequential.with_acls(OPEN);
        let (stat, sequence) = client.create("/a/s-", b"", &ephemeral).await.expect("new");
        assert_eq!((sequence.into_i64(), stat.ephemeral_owner), (4, client.session_id().0));
        let container = CreateMode::Container.with_acls(OPEN);
        assert_eq!(client.create("/c", b"", &container).await.expect("new").0.ephemeral_owner, 0);
        let ttl = CreateMode::Persistent.with_acls(OPEN).with_ttl(Duration::from_secs(600));
        assert_eq!(client.create("/t", b"", &ttl).await.expect("new").0.ephemeral_owner, 0);
        let mut mine = client.list_ephemerals("/").await.expect("served");
        mine.sort();
        assert_eq!(mine, ["/a/e", "/a/s-0000000004"]);
        assert_eq!(client.count_descendants_number("/a").await, Ok(4));
    });
    server.stop();
}

#[test]
fn ttl_nodes_need_extended_types() {
    let home = Home::new("");
    let server = home.start();
    run(async {
        let client = connect(&server).await;
        let ttl = CreateMode::Persistent.with_acls(OPEN).with_ttl(Duration::from_secs(600));
        assert_eq!(client.create("/t", b"", &ttl).await.err(), Some(Error::Unimplemented));
        assert_eq!(client.check_stat("/t").await, Ok(None));
    });
    server.stop();
}

#[test]
fn containers_and_ttl_nodes_go_by_themselves() {
    let home = Home::new("extendedTypesEnabled=true").define("znode.container.checkIntervalMs=50");
    let server = home.start();
    run(async {
        let client = connect(&server).await;
        client.create("/c", b"", &CreateMode::Container.with_acls(OPEN)).await.expect("new");
        let (stat, container) = client.check_and_watch_stat("/c").await.expect("served");
        assert!(stat.is_some(), "a container never used stays");
        client.create("/c/child", b"", PERSISTENT).await.expect("new");
        let ttl = CreateMode::Persistent.with_acls(OPEN).with_ttl(Duration::from_millis(100));
        client.create("/t", b"", &ttl).await.expect("new");
        let (_, short_lived) = client.check_and_watch_stat("/t").await.expect("served");
        // A parent with a child is not deleted, however old it is.
        client.create("/u", b"", &ttl).await.expect("new");
        client.create("/u/child", b"", PERSISTENT).await.expect("new");
        assert_eq!(within(short_lived.changed()).await.event_type, EventType::NodeDeleted);
        assert!(client.check_stat("/c").await.expect("served").is_some(), "it has a child");
        assert!(client.check_stat("/u").await.expect("served").is_some(), "it has a child");
        client.delete("/c/child", None).await.expect("there");
        assert_eq!(within(container.changed()).await.event_type, EventType::NodeDeleted);
    });
    server.stop();
    // The restart after the container checks works, and what is left is deleted then.
    let server = home.start();
    run(async {
        let client = connect(&server).await;
        assert_eq!(client.check_stat("/c").await, Ok(None));
        let (_, parent) = client.check_and_watch_stat("/u").await.expect("served");
        client.delete("/u/child", None).await.expect("there");
        assert_eq!(within(parent.changed()).await.event_type, EventType::NodeDeleted);
    });
    server.stop();
}

#[test]
fn data_versions_and_children() {
    let home = Home::new("");
    let server = home.start();
    run(async {
        let client = connect(&server).await;
        client.create("/a", b"0", PERSISTENT).await.expect("new");
        assert_eq!(client.set_data("/a", b"1", Some(0)).await.expect("there").version, 1);
        assert_eq!(client.set_data("/a", b"2", Some(0)).await, Err(Error::BadVersion));
        assert_eq!(client.set_data("/none", b"", None).await, Err(Error::NoNode));
        let (data, stat) = client.get_data("/a").await.expect("there");
        assert_eq!((data.as_slice(), stat.version), (&b"1"[..], 1));
        for name in ["x", "y", "z"] {
            client.create(&format!("/a/{name}"), b"", PERSISTENT).await.expect("new");
        }
        let (mut names, stat) = client.get_children("/a").await.expect("there");
        names.sort();
        assert_eq!((names.join(""), stat.num_children, stat.cversion), ("xyz".to_string(), 3, 3));
        assert_eq!(client.delete("/a", None).await, Err(Error::NotEmpty));
        assert_eq!(client.delete("/a/x", Some(3)).await, Err(Error::BadVersion));
        client.delete("/a/x", Some(0)).await.expect("there");
        assert_eq!(client.delete("/a/x", None).await, Err(Error::NoNode));
        assert_eq!(client.check_stat("/a").await.expect("served").map(|s| (s.num_children, s.cversion)), Some((2, 4)));
        assert_eq!(client.sync("/a").await, Ok(()));
        assert_eq!(client.get_config().await.expect("there").0, b"");
    });
    server.stop();
}

#[test]
#[expect(deprecated, reason = "only `remove` says whether the server had the watch")]
fn one_shot_watches_fire_once() {
    let home = Home::new("zabra.shards=2");
    let server = home.start();
    run(async {
        let (watcher, writer) = (connect(&server).await, connect(&server).await);
        let (stat, created) = watcher.check_and_watch_stat("/a").await.expect("served");
        assert_eq!(stat, None);
        let (stat, _) = writer.create("/a", b"", PERSISTENT).await.expect("new");
        let event = within(created.changed()).await;
        assert_eq!((event.event_type, event.path.as_str(), event.zxid), (EventType::NodeCreated, "/a", stat.czxid));
        let (_, _, changed) = watcher.get_and_watch_data("/a").await.expect("there");
        let (_, children) = watcher.list_and_watch_children("/a").await.expect("there");
        let stat = writer.set_data("/a", b"1", None).await.expect("there");
        let event = within(changed.changed()).await;
        assert_eq!((event.event_type, event.zxid), (EventType::NodeDataChanged, stat.mzxid));
        // A client that got the event sees the new value.
        assert_eq!(watcher.get_data("/a").await.expect("there").0, b"1");
        writer.create("/a/b", b"", PERSISTENT).await.expect("new");
        let event = within(children.changed()).await;
        assert_eq!((event.event_type, event.path.as_str()), (EventType::NodeChildrenChanged, "/a"));
        let (_, _, deleted) = watcher.get_and_watch_data("/a/b").await.expect("there");
        writer.delete("/a/b", None).await.expect("there");
        assert_eq!(within(deleted.changed()).await.event_type, EventType::NodeDeleted);
        // A removed watch gives no events. The library's types do not allow removing it twice.
        let (_, _, removed) = watcher.get_and_watch_data("/a").await.expect("there");
        removed.remove().await.expect("there was one");
        writer.set_data("/a", b"2", None).await.expect("there");
        assert_eq!(watcher.get_data("/a").await.expect("there").0, b"2");
    });
    server.stop();
}

#[test]
#[expect(deprecated, reason = "only `remove` says whether the server had the watch")]
fn persistent_and_recursive_watches_stay() {
    let home = Home::new("");
    let server = home.start();
    run(async {
        let (watcher, writer) = (connect(&server).await, connect(&server).await);
        writer.create("/a", b"", PERSISTENT).await.expect("new");
        let mut persistent = watcher.watch("/a", AddWatchMode::Persistent).await.expect("served");
        let mut recursive = watcher.watch("/a", AddWatchMode::PersistentRecursive).await.expect("served");
        writer.set_data("/a", b"", None).await.expect("there");
        writer.create("/a/b", b"", PERSISTENT).await.expect("new");
        writer.create("/a/b/c", b"", PERSISTENT).await.expect("new");
        writer.set_data("/a/b/c", b"", None).await.expect("there");
        writer.delete("/a/b/c", None).await.expect("there");
        writer.delete("/a/b", None).await.expect("there");
        writer.delete("/a", None).await.expect("there");
        use EventType::{NodeChildrenChanged, NodeCreated, NodeDataChanged, NodeDeleted};
        for expected in
            [(NodeDataChanged, "/a"), (NodeChildrenChanged, "/a"), (NodeChildrenChanged, "/a"), (NodeDeleted, "/a")]
        {
            let event = within(persistent.changed()).await;
            assert_eq!((event.event_type, event.path.as_str()), expected);
        }
        for expected in [
            (NodeDataChanged, "/a"),
            (NodeCreated, "/a/b"),
            (NodeCreated, "/a/b/c"),
            (NodeDataChanged, "/a/b/c"),
            (NodeDeleted, "/a/b/c"),
            (NodeDeleted, "/a/b"),
            (NodeDeleted, "/a"),
        ] {
            let event = within(recursive.changed()).await;
            assert_eq!((event.event_type, event.path.as_str()), expected);
        }
        // Both watches outlive the znode.
        writer.create("/a", b"", PERSISTENT).await.expect("new");
        assert_eq!(within(persistent.changed()).await.event_type, NodeCreated);
        assert_eq!(within(recursive.changed()).await.event_type, NodeCreated);
        recursive.remove().await.expect("there was one");
        writer.set_data("/a", b"", None).await.expect("there");
        assert_eq!(within(persistent.changed()).await.event_type, NodeDataChanged);
    });
    server.stop();
}

#[test]
fn multis_are_all_or_nothing() {
    let home = Home::new("");
    let server = home.start();
    run(async {
        let client = connect(&server).await;
        client.create("/a", b"0", PERSISTENT).await.expect("new");
        let mut writer = client.new_multi_writer();
        writer.add_check_version("/a", 0).expect("valid");
        writer.add_create("/a/b", b"b", PERSISTENT).expect("valid");
        writer.add_set_data("/a/b", b"c", Some(0)).expect("valid");
        writer.add_create("/a/d", b"", PERSISTENT).expect("valid");
        writer.add_delete("/a/d", None).expect("valid");
        let results = writer.commit().await.expect("done");
        assert_eq!(results.len(), 5);
        assert_eq!(results[0], MultiWriteResult::Check);
        assert!(matches!(&results[1], MultiWriteResult::Create { path, .. } if path == "/a/b"));
        assert!(matches!(&results[2], MultiWriteResult::SetData { stat } if stat.version == 1));
        assert_eq!(results[4], MultiWriteResult::Delete);
        let before = client.check_stat("/a").await.expect("served");
        let mut writer = client.new_multi_writer();
        writer.add_create("/a/e", b"", PERSISTENT).expect("valid");
        writer.add_set_data("/a", b"9", None).expect("valid");
        writer.add_delete("/none", None).expect("valid");
        writer.add_create("/a/f", b"", PERSISTENT).expect("valid");
        assert_eq!(writer.commit().await, Err(MultiWriteError::OperationFailed { index: 2, source: Error::NoNode }));
        assert_eq!(client.check_stat("/a").await.expect("served"), before, "nothing of it was done");
        assert_eq!(client.list_children("/a").await, Ok(vec!["b".to_string()]));
        let mut reader = client.new_multi_reader();
        reader.add_get_data("/a/b").expect("valid");
        reader.add_get_data("/none").expect("valid");
        reader.add_get_children("/a").expect("valid");
        let results = reader.commit().await.expect("served");
        assert!(matches!(&results[0], MultiReadResult::Data { data, .. } if data == b"c"));
        assert!(matches!(&results[1], MultiReadResult::Error { err: Error::NoNode }));
        assert!(matches!(&results[2], MultiReadResult::Children { children } if children == &["b".to_string()]));
    });
    server.stop();
}

#[test]
fn acls_and_digest_identities() {
    // The password is super:interop.
    let home = Home::new("DigestAuthenticationProvider.superDigest=super:/49OUaS/Rm5CIudE7EhYoMwy+PY=");
    let server = home.start();
    run(async {
        let (owner, stranger) = (connect(&server).await, connect(&server).await);
        let creator = CreateMode::Persistent.with_acls(Acls::creator_all());
        assert_eq!(owner.create("/a", b"", &creator).await.err(), Some(Error::InvalidAcl), "nobody is authenticated");
        owner.auth("digest", b"user:password").await.expect("served");
        owner.create("/a", b"secret", &creator).await.expect("new");
        assert_eq!(stranger.get_data("/a").await.err(), Some(Error::NoAuth));
        assert_eq!(stranger.set_data("/a", b"", None).await.err(), Some(Error::NoAuth));
        assert_eq!(stranger.list_children("/a").await.err(), Some(Error::NoAuth));
        assert_eq!(stranger.create("/a/b", b"", PERSISTENT).await.err(), Some(Error::NoAuth));
        assert_eq!(stranger.get_acl("/a").await.err(), Some(Error::NoAuth));
        // A watch may be set without READ permission, but it gives no events about a znode that may not be read.
        stranger.auth("digest", b"user:wrong").await.expect("any identity is accepted");
        assert_eq!(stranger.get_data("/a").await.err(), Some(Error::NoAuth));
        stranger.auth("digest", b"user:password").await.expect("served");
        assert_eq!(stranger.get_data("/a").await.expect("allowed now").0, b"secret");
        let (acls, stat) = owner.get_acl("/a").await.expect("allowed");
        assert_eq!((acls.len(), acls[0].scheme(), acls[0].permission()), (1, "digest", Permission::ALL));
        let readable =
            [Acl::new(Permission::READ, AuthId::anyone()), Acl::new(Permission::ALL, acls[0].auth_id().clone())];
        let changed = owner.set_acl("/a", &readable, Some(stat.aversion)).await.expect("allowed");
        assert_eq!(changed.aversion, stat.aversion + 1);
        assert_eq!(owner.set_acl("/a", &readable, Some(stat.aversion)).await, Err(Error::BadVersion));
        let anyone = connect(&server).await;
        assert_eq!(anyone.get_data("/a").await.expect("readable now").0, b"secret");
        assert_eq!(anyone.set_data("/a", b"", None).await.err(), Some(Error::NoAuth));
        let (masked, _) = anyone.get_acl("/a").await.expect("readable");
        assert!(masked.iter().any(|a| a.id() == "user:x"), "the hash is not shown: {masked:?}");
        let mut users: Vec<String> = stranger
            .list_auth_users()
            .await
            .expect("served")
            .iter()
            .map(|u| format!("{}:{}", u.scheme(), u.user()))
            .collect();
        users.sort();
        assert_eq!(users, ["digest:user", "digest:user", "ip:127.0.0.1"]);
        anyone.auth("digest", b"super:interop").await.expect("served");
        anyone.set_data("/a", b"by super", None).await.expect("super may do anything");
        assert_eq!(connect(&server).await.auth("nonsense", b"").await, Err(Error::AuthFailed));
    });
    server.kill();
    // Identities end with their connection; ACLs stay.
    let server = home.start();
    run(async {
        let client = connect(&server).await;
        assert_eq!(client.set_data("/a", b"", None).await.err(), Some(Error::NoAuth));
        client.auth("digest", b"user:password").await.expect("served");
        client.set_data("/a", b"", None).await.expect("allowed");
    });
    server.stop();
}

#[test]
fn hard_quotas_are_enforced() {
    let home = Home::new("enforceQuota=true");
    let server = home.start();
    run(async {
        let client = connect(&server).await;
        client.create("/a", b"", PERSISTENT).await.expect("new");
        client.mkdir("/zookeeper/quota/a", PERSISTENT).await.expect("new");
        let limits = b"count=-1,bytes=-1=;byteHardLimit=10;countHardLimit=3";
        client.create("/zookeeper/quota/a/zookeeper_limits", limits, PERSISTENT).await.expect("new");
        client.create("/zookeeper/quota/a/zookeeper_stats", b"count=0,bytes=0", PERSISTENT).await.expect("new");
        client.create("/a/b", b"12345", PERSISTENT).await.expect("within");
        client.create("/a/c", b"", PERSISTENT).await.expect("within");
        assert_eq!(client.create("/a/d", b"", PERSISTENT).await.err(), Some(Error::QuotaExceeded));
        assert_eq!(client.set_data("/a/c", b"123456", None).await.err(), Some(Error::QuotaExceeded));
        client.set_data("/a/c", b"12345", None).await.expect("just within");
        let (used, _) = client.get_data("/zookeeper/quota/a/zookeeper_stats").await.expect("there");
        assert!(used.starts_with(b"count=3,bytes=10"), "{}", String::from_utf8_lossy(&used));
        client.delete("/a/b", None).await.expect("there");
        client.create("/a/d", b"", PERSISTENT).await.expect("within again");
    });
    server.kill();
    let server = home.start();
    run(async {
        let client = connect(&server).await;
        assert_eq!(
            client.create("/a/e", b"", PERSISTENT).await.err(),
            Some(Error::QuotaExceeded),
            "after a restart too"
        );
    });
    server.stop();
}

#[test]
fn a_lock_passes_from_session_to_session() {
    let home = Home::new("zabra.shards=2");
    let server = home.start();
    run(async {
        use zookeeper_client::LockPrefix;
        let (first, second) = (connect(&server).await, connect(&server).await);
        first.create("/locks", b"", PERSISTENT).await.expect("new");
        let prefix = || LockPrefix::new_curator("/locks", "lock-").expect("valid");
        let held = first.lock(prefix(), b"", OPEN).await.expect("the first gets it");
        let waiting = second.lock(prefix(), b"", OPEN);
        tokio::pin!(waiting);
        let early = tokio::time::timeout(Duration::from_millis(100), &mut waiting).await;
        assert!(early.is_err(), "it is held");
        drop(held);
        within(waiting).await.expect("now the second");
    });
    server.stop();
}
