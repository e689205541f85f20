//! A journal of everything that happened, in order.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use zabra::types::ConnId;

/// One entry.
pub enum Item {
    /// A message between parts of a server, or a step of one part.
    Said(String),
    /// Bytes were passed to the sockets for this connection.
    Sent(ConnId),
}

/// The journal; all parts write into the same one.
#[derive(Clone, Default)]
pub struct Journal {
    items: Rc<RefCell<Vec<Item>>>,
    steps: Rc<Cell<bool>>,
}

impl Journal {
    /// Whether locks, cursors and wake-ups are recorded too.
    pub fn set_steps(&self, on: bool) {
        self.steps.set(on);
    }

    pub fn say(&self, what: String) {
        self.items.borrow_mut().push(Item::Said(what));
    }

    /// Records a step that only matters for its position between others.
    pub fn step(&self, what: impl FnOnce() -> String) {
        if self.steps.get() {
            self.say(what());
        }
    }

    pub fn sent(&self, conn: ConnId) {
        self.items.borrow_mut().push(Item::Sent(conn));
    }

    pub fn take(&self) -> Vec<Item> {
        self.items.take()
    }
}
