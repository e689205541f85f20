//! Message queues from any thread to one receiver, which wake the receiver.
//!
//! A core that sends to itself (when shard and peer share a core) uses the same queue: without contention a push and a
//! pop take some nanoseconds, and waking a core that is awake is one load after a fence.

use crate::runtime::net::Waker;
use crossbeam::queue::{ArrayQueue, SegQueue};
use std::sync::Arc;

/// How the receiver is woken.
#[derive(Clone)]
pub enum Bell {
    /// A core that sleeps in its ring or epoll.
    Core(Waker),
    /// Anything else, for example a tokio task: this is called after each send.
    Call(Arc<dyn Fn() + Send + Sync>),
}

impl Bell {
    pub(super) fn ring(&self) {
        match self {
            Bell::Core(w) => w.wake(),
            Bell::Call(f) => f(),
        }
    }
}

enum Queue<T> {
    Unbounded(SegQueue<T>),
    Bounded(ArrayQueue<T>),
}

struct Shared<T> {
    queue: Queue<T>,
    bell: Bell,
}

/// The sending end. Messages from one sender arrive in order.
pub struct Sender<T>(Arc<Shared<T>>);

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Sender<T> {
        Sender(self.0.clone())
    }
}

/// The receiving end.
pub struct Receiver<T>(Arc<Shared<T>>);

/// A queue without limit, for messages whose number is limited elsewhere (outstanding requests, one answer per job).
pub fn mailbox<T>(bell: Bell) -> (Sender<T>, Receiver<T>) {
    ends(Queue::Unbounded(SegQueue::new()), bell)
}

/// A queue of at most `capacity` messages. If it is full the sender has to wait, see [`Sender::try_send`].
pub fn bounded<T>(capacity: usize, bell: Bell) -> (Sender<T>, Receiver<T>) {
    ends(Queue::Bounded(ArrayQueue::new(capacity)), bell)
}

fn ends<T>(queue: Queue<T>, bell: Bell) -> (Sender<T>, Receiver<T>) {
    let shared = Arc::new(Shared { queue, bell });
    (Sender(shared.clone()), Receiver(shared))
}

impl<T> Shared<T> {
    fn push(&self, message: T) -> Result<(), T> {
        match &self.queue {
            Queue::Unbounded(q) => {
                q.push(message);
                Ok(())
            }
            Queue::Bounded(q) => q.push(message),
        }
    }

    fn len(&self) -> usize {
        match &self.queue {
            Queue::Unbounded(q) => q.len(),
            Queue::Bounded(q) => q.len(),
        }
    }
}

impl<T> Sender<T> {
    /// Sends a message and wakes the receiver.
    ///
    /// # Panics
    /// If the mailbox is bounded and full: use [`try_send`](Sender::try_send) there.
    pub fn send(&self, message: T) {
        assert!(self.try_send(message).is_ok(), "send to a full mailbox of {} messages", self.len());
    }

    /// Sends a message and wakes the receiver; if the mailbox is full, returns the message.
    pub fn try_send(&self, message: T) -> Result<(), T> {
        self.0.push(message)?;
        self.0.bell.ring();
        Ok(())
    }

    /// Adds a message without waking the receiver; call [`ring`](Sender::ring) after the last message of a batch.
    ///
    /// # Panics
    /// If the mailbox is bounded and full.
    pub fn push(&self, message: T) {
        assert!(self.0.push(message).is_ok(), "push to a full mailbox of {} messages", self.len());
    }

    /// Sends all messages and wakes the receiver once.
    ///
    /// # Panics
    /// If the mailbox is bounded and full.
    pub fn send_all(&self, messages: impl IntoIterator<Item = T>) {
        messages.into_iter().for_each(|message| self.push(message));
        self.ring();
    }

    /// Wakes the receiver.
    pub fn ring(&self) {
        self.0.bell.ring();
    }

    /// Number of waiting messages, approximately.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether no message waits, approximately.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<T> Receiver<T> {
    /// Takes the oldest message. An empty mailbox, as in most turns of a core, costs little.
    pub fn pop(&self) -> Option<T> {
        match &self.0.queue {
            Queue::Unbounded(q) if q.is_empty() => None,
            Queue::Unbounded(q) => q.pop(),
            Queue::Bounded(q) => q.pop(),
        }
    }

    /// Takes the messages that are there now, not those that come meanwhile, so that a turn stays bounded.
    pub fn drain(&self) -> impl Iterator<Item = T> + '_ {
        (0..self.len()).map_while(|_| self.pop())
    }

    /// Number of waiting messages, approximately.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether no message waits, approximately.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Another sender to this mailbox.
    pub fn sender(&self) -> Sender<T> {
        Sender(self.0.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::net::tests::backends;
    use crate::runtime::net::{Net, NetOptions};
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::thread;

    fn counting() -> (Bell, Arc<AtomicU32>) {
        let n = Arc::new(AtomicU32::new(0));
        let m = n.clone();
        let ring = move || {
            m.fetch_add(1, Ordering::SeqCst);
        };
        (Bell::Call(Arc::new(ring)), n)
    }

    #[test]
    fn a_batch_rings_once_and_a_turn_is_bounded() {
        let (bell, rung) = counting();
        let (tx, rx) = mailbox(bell);
        tx.push(0);
        assert_eq!(rung.load(Ordering::SeqCst), 0);
        tx.send_all(1..3);
        let mut seen = Vec::new();
        for m in rx.drain() {
            seen.push(m);
            tx.send(m + 10); // for the next turn
        }
        assert_eq!(seen, [0, 1, 2]);
        assert_eq!(rx.drain().collect::<Vec<_>>(), [10, 11, 12]);
        assert_eq!(rung.load(Ordering::SeqCst), 4);
    }

    #[test]
    fn a_full_mailbox_gives_the_message_back() {
        let (bell, rung) = counting();
        let (tx, rx) = bounded(1, bell);
        tx.try_send("a").unwrap();
        assert_eq!(tx.try_send("b"), Err("b"));
        assert_eq!(rung.load(Ordering::SeqCst), 1);
        assert_eq!((rx.pop(), rx.pop()), (Some("a"), None));
    }

    #[test]
    fn nothing_is_lost_between_two_threads_and_a_sleeping_core() {
        const EACH: u64 = 20_000;
        for backend in backends() {
            let options = NetOptions { entries: 8, buffers: 8, buffer_len: 64, ..NetOptions::default() };
            let mut net = Net::new(backend, &options).unwrap();
            let (tx, rx) = mailbox(Bell::Core(net.waker()));
            let threads: Vec<_> = (0..2u64)
                .map(|id| {
                    let tx = tx.clone();
                    thread::spawn(move || (0..EACH).for_each(|i| tx.send((id, i))))
                })
                .collect();
            let mut next = [0u64; 2];
            // If a wake-up is lost, this sleeps for ever.
            while next != [EACH; 2] {
                for (id, i) in rx.drain() {
                    assert_eq!(next[id as usize], i, "out of order");
                    next[id as usize] += 1;
                }
                if next != [EACH; 2] {
                    net.park(None).unwrap();
                    net.reap(&mut |_| {});
                }
            }
            threads.into_iter().for_each(|t| t.join().unwrap());
        }
    }
}
