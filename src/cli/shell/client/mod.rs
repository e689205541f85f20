//! A small blocking client: what the shell needs. It uses this crate's own records. Mirrors `ZooKeeper` and
//! `ZooKeeperAdmin`.
//!
//! One thread maintains the session ([`send_thread`]), one per connection reads its socket ([`dial`]); callers wait for
//! their replies.

pub(crate) mod chroot;
mod dial;
pub(crate) mod error;
pub(crate) mod event;
pub(crate) mod hosts;
mod input;
mod send_thread;
mod state;
#[cfg(test)]
mod tests;
pub(crate) mod watches;

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, channel};
use std::time::Duration;

pub(crate) use error::{ClientError, code};
pub(crate) use event::WatchedEvent;
use input::{Input, Packet, Reply, WatchChange};
use send_thread::Watcher;
use state::Shared;
pub(crate) use state::State;
use watches::{Registration, WatcherType};

use super::path::{validate, validate_sequential};
use crate::jute::stat::read_stat;
use crate::jute::{JuteError, Reader};
use crate::proto::multi::{MultiOp, MultiResult};
use crate::proto::{CreateRequest, Request, response};
use crate::types::{Acl, CreateMode, Op, Stat, path};

/// How long `sync` may take.
const SYNC_TIMEOUT: Duration = Duration::from_secs(30);

/// Options of a session.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// The requested session timeout, in milliseconds.
    pub(crate) timeout_ms: i32,
    /// Whether a read-only server is acceptable.
    pub(crate) read_only: bool,
    /// Whether the watches are set again on a new connection.
    pub(crate) rearm_watches: bool,
    /// Longest reply that is accepted, in bytes.
    pub(crate) max_frame: usize,
    /// How long a call may take; `None`: as long as the connection lasts.
    pub(crate) request_timeout: Option<Duration>,
}

/// One session. If it is dropped without [`Client::close`], it stays on the server until it times out.
pub(crate) struct Client {
    tx: SyncSender<Input>,
    shared: Arc<Shared>,
    chroot: Option<String>,
    request_timeout: Option<Duration>,
}

/// What a create needs besides the path.
pub(crate) struct Create<'a> {
    pub(crate) data: Option<&'a [u8]>,
    pub(crate) acl: &'a [Acl],
    pub(crate) mode: CreateMode,
    /// For the TTL modes only.
    pub(crate) ttl_ms: Option<i64>,
}

type Outcome<T> = Result<T, ClientError>;

fn argument(checked: Result<(), String>) -> Outcome<()> {
    checked.map_err(ClientError::Argument)
}

impl Client {
    /// Starts a session with one of the servers in `connect` and returns at once. `watcher` is called on the session's
    /// thread.
    ///
    /// # Errors
    /// No thread can be had.
    pub(crate) fn start(connect: hosts::ConnectString, options: Options, watcher: Watcher) -> io::Result<Client> {
        let request_timeout = options.request_timeout;
        let (tx, shared) = send_thread::start(options, connect.hosts, connect.chroot.clone(), watcher)?;
        Ok(Client { tx, shared, chroot: connect.chroot, request_timeout })
    }

    /// The session's current state.
    pub(crate) fn state(&self) -> State {
        self.shared.state()
    }

    /// Waits for a connection to a server that accepts writes; false after `timeout`.
    pub(crate) fn wait_connected(&self, timeout: Duration) -> bool {
        self.shared.wait_connected(timeout)
    }

    /// Closes the session on the server, if the server can be reached.
    pub(crate) fn close(&self) {
        if self.state().is_alive() {
            // The session ends here whatever the server answers.
            let _ = self.submit(Op::CLOSE_SESSION, &Request::CloseSession, WatchChange::None).recv();
        }
    }

    fn submit(&self, op: Op, request: &Request<'_>, watch: WatchChange) -> Receiver<Reply> {
        let (reply, answer) = channel();
        // Fails only if the session's thread has ended; then the receiver returns an error.
        let _ = self.tx.send(Input::Submit(Packet { op, body: request.body(op), watch, reply }));
        answer
    }

    /// Sends a request and waits for its reply. `path` is the user's path, for error messages.
    fn call(&self, op: Op, request: &Request<'_>, watch: WatchChange, path: Option<&str>) -> Outcome<Vec<u8>> {
        self.await_reply(self.submit(op, request, watch), self.request_timeout, path)
    }

    fn await_reply(&self, answer: Receiver<Reply>, limit: Option<Duration>, path: Option<&str>) -> Outcome<Vec<u8>> {
        let reply = match limit {
            None => answer.recv().ok(),
            Some(limit) => match answer.recv_timeout(limit) {
                Ok(r) => Some(r),
                Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => None,
                Err(std::sync::mpsc::RecvTimeoutError::Timeout) => {
                    let _ = self.tx.send(Input::Abort);
                    Some(Reply { err: code::REQUEST_TIMEOUT, body: Vec::new() })
                }
            },
        };
        let reply = reply.unwrap_or(Reply { err: code::SESSION_EXPIRED, body: Vec::new() });
        if reply.err == code::OK {
            return Ok(reply.body);
        }
        Err(ClientError::Keeper { code: reply.err, path: path.map(str::to_owned) })
    }

    fn server(&self, path: &str) -> String {
        chroot::add(self.chroot.as_deref(), path)
    }

    fn register(watch: bool, what: Registration, path: &str) -> WatchChange {
        if watch { WatchChange::Register(what, path.to_owned()) } else { WatchChange::None }
    }

    /// Creates a znode; returns its path, including the number of a sequential one.
    pub(crate) fn create(&self, path: &str, c: &Create<'_>) -> Outcome<String> {
        argument(if c.mode.is_sequential() { validate_sequential(path) } else { validate(path) })?;
        check_acl(c.acl)?;
        let op = match c.mode {
            CreateMode::Container => Op::CREATE_CONTAINER,
            m if m.is_ttl() => Op::CREATE_TTL,
            _ => Op::CREATE,
        };
        let request = Request::Create(CreateRequest {
            path: self.server(path).into(),
            data: c.data,
            acl: c.acl.to_vec().into(),
            flags: c.mode as i32,
            ttl_ms: c.ttl_ms,
        });
        let reply = self.call(op, &request, WatchChange::None, Some(path))?;
        let created = Reader::new(&reply).string()?.into_owned();
        Ok(chroot::strip(self.chroot.as_deref(), &created).to_owned())
    }

    /// Deletes a znode; version -1 matches every version.
    pub(crate) fn delete(&self, path: &str, version: i32) -> Outcome<()> {
        argument(validate(path))?;
        // The server refuses to delete its root. The root of a chroot must not be deleted either, so its path is not
        // translated.
        let server = if path == path::ROOT { path.to_owned() } else { self.server(path) };
        let request = Request::Delete { path: server.into(), version };
        self.call(Op::DELETE, &request, WatchChange::None, Some(path)).map(drop)
    }

    /// Deletes znodes, whatever their versions, in one transaction. Does not wait for the reply.
    pub(crate) fn delete_all(&self, paths: &[String]) -> Pending {
        let delete = |p: &String| MultiOp::Delete { path: self.server(p).into(), version: -1 };
        let request = Request::Multi(paths.iter().map(delete).collect());
        Pending(self.submit(Op::MULTI, &request, WatchChange::None))
    }

    /// The stat of a znode, if it exists.
    pub(crate) fn exists(&self, path: &str, watch: bool) -> Outcome<Option<Stat>> {
        argument(validate(path))?;
        let watch_change = Self::register(watch, Registration::Exists, path);
        let request = Request::Exists { path: self.server(path).into(), watch };
        match self.call(Op::EXISTS, &request, watch_change, Some(path)) {
            Ok(reply) => Ok(Some(read_stat(&mut Reader::new(&reply))?)),
            Err(ClientError::Keeper { code: code::NO_NODE, .. }) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// The data and the stat.
    pub(crate) fn get_data(&self, path: &str, watch: bool) -> Outcome<(Option<Vec<u8>>, Stat)> {
        argument(validate(path))?;
        let watch_change = Self::register(watch, Registration::Data, path);
        let request = Request::GetData { path: self.server(path).into(), watch };
        let reply = self.call(Op::GET_DATA, &request, watch_change, Some(path))?;
        read_data(&reply)
    }

    /// The ensemble's configuration, which is outside every chroot.
    pub(crate) fn get_config(&self, watch: bool) -> Outcome<(Option<Vec<u8>>, Stat)> {
        let watch_change = Self::register(watch, Registration::Data, path::CONFIG);
        let request = Request::GetData { path: path::CONFIG.into(), watch };
        let reply = self.call(Op::GET_DATA, &request, watch_change, Some(path::CONFIG))?;
        read_data(&reply)
    }

    /// Replaces a znode's data; version -1 matches every version.
    pub(crate) fn set_data(&self, path: &str, data: &[u8], version: i32) -> Outcome<Stat> {
        argument(validate(path))?;
        let request = Request::SetData { path: self.server(path).into(), data: Some(data), version };
        self.stat(Op::SET_DATA, &request, path)
    }

    fn stat(&self, op: Op, request: &Request<'_>, path: &str) -> Outcome<Stat> {
        let reply = self.call(op, request, WatchChange::None, Some(path))?;
        Ok(read_stat(&mut Reader::new(&reply))?)
    }

    /// The ACL and the stat.
    pub(crate) fn get_acl(&self, path: &str) -> Outcome<(Vec<Acl>, Stat)> {
        argument(validate(path))?;
        let request = Request::GetAcl { path: self.server(path).into() };
        let reply = self.call(Op::GET_ACL, &request, WatchChange::None, Some(path))?;
        let (acl, stat) = response::read_acl(&mut Reader::new(&reply))?;
        Ok((acl.into_owned(), stat))
    }

    /// Replaces a znode's ACL; version -1 matches every version.
    pub(crate) fn set_acl(&self, path: &str, acl: &[Acl], version: i32) -> Outcome<Stat> {
        argument(validate(path))?;
        check_acl(acl)?;
        let request = Request::SetAcl { path: self.server(path).into(), acl: acl.to_vec().into(), version };
        self.stat(Op::SET_ACL, &request, path)
    }

    /// The names of the children in no particular order, and the stat.
    pub(crate) fn get_children(&self, path: &str, watch: bool) -> Outcome<(Vec<String>, Stat)> {
        argument(validate(path))?;
        let watch_change = Self::register(watch, Registration::Child, path);
        let request = Request::GetChildren { path: self.server(path).into(), watch };
        let reply = self.call(Op::GET_CHILDREN2, &request, watch_change, Some(path))?;
        Ok(response::read_children2(&mut Reader::new(&reply))?)
    }

    /// The number of znodes below.
    pub(crate) fn get_all_children_number(&self, path: &str) -> Outcome<i32> {
        argument(validate(path))?;
        let request = Request::GetAllChildrenNumber { path: self.server(path).into() };
        let reply = self.call(Op::GET_ALL_CHILDREN_NUMBER, &request, WatchChange::None, Some(path))?;
        Ok(Reader::new(&reply).i32()?)
    }

    /// This session's ephemerals whose paths begin with `prefix`. As in Java, the chroot applies neither to the prefix
    /// nor to the result.
    pub(crate) fn get_ephemerals(&self, prefix: &str) -> Outcome<Vec<String>> {
        argument(validate(prefix))?;
        let request = Request::GetEphemerals { prefix: prefix.into() };
        let reply = self.call(Op::GET_EPHEMERALS, &request, WatchChange::None, None)?;
        Ok(Reader::new(&reply).strings()?)
    }

    /// Waits until the server has caught up with its leader.
    pub(crate) fn sync(&self, path: &str) -> Outcome<()> {
        argument(validate(path))?;
        let request = Request::Sync { path: Some(self.server(path).into()) };
        let answer = self.submit(Op::SYNC, &request, WatchChange::None);
        let limit = self.request_timeout.map_or(SYNC_TIMEOUT, |t| t.min(SYNC_TIMEOUT));
        self.await_reply(answer, Some(limit), Some(path)).map(drop)
    }

    /// Sets a persistent watch.
    pub(crate) fn add_watch(&self, path: &str, recursive: bool) -> Outcome<()> {
        argument(validate(path))?;
        let what = if recursive { Registration::PersistentRecursive } else { Registration::Persistent };
        let request = Request::AddWatch { path: self.server(path).into(), mode: i32::from(recursive) };
        self.call(Op::ADD_WATCH, &request, WatchChange::Register(what, path.to_owned()), Some(path)).map(drop)
    }

    /// Removes this session's watches on a path; with `local`, even if the server cannot be reached.
    pub(crate) fn remove_watches(&self, path: &str, kind: WatcherType, local: bool) -> Outcome<()> {
        argument(validate(path))?;
        let request = Request::RemoveWatches { path: self.server(path).into(), kind: kind as i32 };
        let change = WatchChange::Remove { path: path.to_owned(), kind, local };
        self.call(Op::REMOVE_WATCHES, &request, change, Some(path)).map(drop)
    }

    /// Adds credentials to the session. A refusal arrives as an event.
    pub(crate) fn add_auth(&self, scheme: &str, auth: Option<&[u8]>) {
        let auth = auth.map(<[u8]>::to_vec);
        // Fails only if the session has ended.
        let _ = self.tx.send(Input::Auth { scheme: scheme.to_owned(), auth });
    }

    /// Scheme and user name of every identity that the server knows for this connection.
    pub(crate) fn who_am_i(&self) -> Outcome<Vec<(String, String)>> {
        let reply = self.call(Op::WHO_AM_I, &Request::WhoAmI, WatchChange::None, None)?;
        Ok(response::read_client_infos(&mut Reader::new(&reply))?)
    }

    /// Changes the ensemble; version -1 matches every version. Returns the new configuration and its stat.
    pub(crate) fn reconfigure(
        &self,
        joining: Option<&str>,
        leaving: Option<&str>,
        members: Option<&str>,
        version: i64,
    ) -> Outcome<(Option<Vec<u8>>, Stat)> {
        let request = Request::Reconfig {
            joining: joining.map(Into::into),
            leaving: leaving.map(Into::into),
            new_members: members.map(Into::into),
            config_id: version,
        };
        let reply = self.call(Op::RECONFIG, &request, WatchChange::None, Some(""))?;
        read_data(&reply)
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.tx.send(Input::Abandon);
    }
}

/// A multi whose reply has not arrived.
pub(crate) struct Pending(Receiver<Reply>);

impl Pending {
    /// Waits for the reply; true if every operation succeeded.
    pub(crate) fn wait(self) -> Result<bool, JuteError> {
        match self.0.recv() {
            Ok(Reply { err: code::OK, body }) => all_done(&body),
            _ => Ok(false),
        }
    }
}

/// Whether no result of a multi is an error. If one is, the first such result says why the others were undone.
fn all_done(body: &[u8]) -> Result<bool, JuteError> {
    let results = MultiResult::read_all(&mut Reader::new(body))?;
    Ok(!results.iter().any(|r| matches!(r, MultiResult::Error(err) if *err != code::OK)))
}

fn read_data(reply: &[u8]) -> Outcome<(Option<Vec<u8>>, Stat)> {
    let (data, stat) = response::read_data(&mut Reader::new(reply))?;
    Ok((data.map(<[u8]>::to_vec), stat))
}

fn check_acl(acl: &[Acl]) -> Outcome<()> {
    if acl.is_empty() { Err(ClientError::Keeper { code: code::INVALID_ACL, path: None }) } else { Ok(()) }
}
