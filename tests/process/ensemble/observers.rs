//! Observers under load.

use super::load::Load;
use super::{Ensemble, QUICK};

/// Rounds that every writer makes between two changes.
const ROUNDS: usize = 20;
const OBSERVER: usize = 4;
/// For an observer only: voters pass it over.
const NO_LOG: &str = "syncEnabled=false\n";

/// An observer without a log is killed, stopped and wiped, its leader changes, and it gets a log. It always comes back to all that was
/// acknowledged, and nothing is in a log that it did not have.
#[test]
fn an_observer_without_a_log_comes_back() {
    let mut four = Ensemble::observed(3, 1, &format!("{QUICK}{NO_LOG}")).all_started();
    assert_eq!(four.role(OBSERVER).as_deref(), Some("observer"));
    let load = Load::on(&four);
    load.goes_on(ROUNDS);
    four.kill(OBSERVER);
    load.goes_on(ROUNDS);
    four.start(OBSERVER);
    four.all_serve();
    let leader = four.leader();
    four.kill(leader);
    load.goes_on(ROUNDS);
    four.start(leader);
    four.all_serve();
    four.stop(OBSERVER);
    load.goes_on(ROUNDS);
    four.wipe(OBSERVER);
    four.start(OBSERVER);
    four.all_serve();
    load.goes_on(ROUNDS);
    for id in four.ids() {
        assert_eq!(four.home(id).logs().is_empty(), id == OBSERVER, "{id}: {:?}", four.home(id).logs());
    }
    four.kill(OBSERVER);
    four.without_line(OBSERVER, NO_LOG);
    four.start(OBSERVER);
    four.all_serve();
    load.goes_on(ROUNDS);
    assert!(!four.home(OBSERVER).logs().is_empty(), "it has a log");
    // And finds in it what it has there.
    four.kill(OBSERVER);
    load.goes_on(ROUNDS);
    four.start(OBSERVER);
    load.check(&mut four);
}
