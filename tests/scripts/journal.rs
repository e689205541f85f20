//! What was said and done, in the order in which it was.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

/// One thing.
pub enum Item {
    /// Something between the parts of a server, or a step of one.
    Said(String),
    /// Bytes were handed to the sockets for this connection: at this place of the list of all that were in this turn.
    Sent(usize),
}

/// Everybody writes into the same one.
#[derive(Clone, Default)]
pub struct Journal {
    items: Rc<RefCell<Vec<Item>>>,
    steps: Rc<Cell<bool>>,
}

impl Journal {
    /// Whether locks, cursors and wake-ups are written down too.
    pub fn set_steps(&self, on: bool) {
        self.steps.set(on);
    }

    pub fn say(&self, what: String) {
        self.items.borrow_mut().push(Item::Said(what));
    }

    /// A step that is only of interest where its place between others is.
    pub fn step(&self, what: impl FnOnce() -> String) {
        if self.steps.get() {
            self.say(what());
        }
    }

    pub fn sent(&self, index: usize) {
        self.items.borrow_mut().push(Item::Sent(index));
    }

    pub fn take(&self) -> Vec<Item> {
        self.items.take()
    }
}
