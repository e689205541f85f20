//! Compares the answers of both servers to one step.

use crate::normal::Item;

/// The first difference.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Difference {
    /// The session that received it.
    pub session: usize,
    /// What each server sent; `None`: nothing more.
    pub apache: Option<Item>,
    pub zabra: Option<Item>,
}

impl Difference {
    /// The request whose answer differs, by its index in the burst.
    pub fn request(&self) -> Option<usize> {
        let of = |item: &Option<Item>| item.as_ref().and_then(|i| i.request);
        of(&self.apache).or(of(&self.zabra))
    }
}

/// Compares the sessions one by one, in order. A reply that differs explains more than an event that differs, so it is
/// preferred. With `concurrent` several sessions wrote at the same time, and events that one session causes and another
/// receives may come at any moment. Then each such pair of sessions is compared as a sequence of its own.
pub fn compare(apache: &[Vec<Item>], zabra: &[Vec<Item>], concurrent: bool) -> Option<Difference> {
    assert_eq!(apache.len(), zabra.len(), "both sides have the same sessions");
    let all = apache.iter().zip(zabra).enumerate().filter_map(|(session, (a, z))| {
        if !concurrent {
            return rows(session, a.iter(), z.iter());
        }
        (0..apache.len()).find_map(|cause| {
            let of = |i: &&Item| i.cause.unwrap_or(session) == cause;
            rows(session, a.iter().filter(of), z.iter().filter(of))
        })
    });
    // The first one with the lowest key.
    all.min_by_key(|d| d.request().is_none())
}

fn rows<'a>(
    session: usize,
    mut apache: impl Iterator<Item = &'a Item>,
    mut zabra: impl Iterator<Item = &'a Item>,
) -> Option<Difference> {
    loop {
        match (apache.next(), zabra.next()) {
            (None, None) => return None,
            (Some(a), Some(z)) if a.text == z.text => {}
            (a, z) => return Some(Difference { session, apache: a.cloned(), zabra: z.cloned() }),
        }
    }
}
