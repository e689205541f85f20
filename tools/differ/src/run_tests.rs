use super::*;
use crate::stream::Burst;
use crate::stream::stream;
use zabra::types::Op;

fn item(text: &str, request: Option<usize>) -> Item {
    Item::plain(text, request)
}

fn found(step: usize, request: Request) -> Found {
    let difference = Difference { session: 0, apache: Some(item("a", Some(0))), zabra: Some(item("b", Some(0))) };
    Found { step, difference, request: Some(request), apache: vec![], zabra: vec![] }
}

/// Simulates a pair of servers that disagree on every reconfig after a whoAmI.
fn differs(steps: &[Step]) -> Option<Found> {
    let mut armed = false;
    for (number, step) in steps.iter().enumerate() {
        for r in step.requests().into_iter().flatten() {
            match r {
                Request::Bare(Op::WHO_AM_I) => armed = true,
                Request::Reconfig if armed => return Some(found(number, r.clone())),
                _ => {}
            }
        }
    }
    None
}

#[test]
fn a_stream_shrinks_to_what_matters() {
    let steps = stream(1, 2_000);
    let first = differs(&steps).expect("the stream has both");
    let (short, last) = shrink(&steps, first, 10_000, |s| Ok(differs(s))).unwrap();
    let left: Vec<Op> = short.iter().flat_map(Step::requests).flatten().map(Request::op).collect();
    assert_eq!(left, [Op::WHO_AM_I, Op::RECONFIG]);
    assert_eq!(last.request, Some(Request::Reconfig));
}

#[test]
fn shrinking_stops_when_it_has_tried_enough() {
    let steps = stream(1, 2_000);
    let first = differs(&steps).unwrap();
    let mut tried = 0;
    let (short, _) = shrink(&steps, first, 5, |s| {
        tried += 1;
        Ok(differs(s))
    })
    .unwrap();
    assert_eq!(tried, 5);
    assert!(differs(&short).is_some());
}

#[test]
fn another_difference_does_not_pass_for_the_first() {
    let steps = stream(1, 500);
    let last = steps.len() - 1;
    let first = found(last, Request::Reconfig);
    let (short, kept) = shrink(&steps, first, 50, |_| Ok(Some(found(0, Request::Bare(Op::WHO_AM_I))))).unwrap();
    assert_eq!((short.len(), kept.request), (steps.len(), Some(Request::Reconfig)));
}

#[test]
fn answers_are_compared_in_order_and_to_their_end() {
    let list = |texts: &[&str]| vec![texts.iter().map(|t| item(t, Some(0))).collect::<Vec<Item>>()];
    assert_eq!(compare(&list(&["a", "b"]), &list(&["a", "b"]), false), None);
    assert!(compare(&list(&["a", "b"]), &list(&["b", "a"]), false).is_some());
    let d = compare(&list(&["a"]), &list(&["a", "b"]), false).unwrap();
    assert_eq!((d.apache, d.zabra.map(|i| i.text)), (None, Some("b".to_owned())));
    assert!(compare(&list(&["a", "b"]), &list(&["a"]), true).is_some());
}

#[test]
fn events_of_another_writer_may_come_at_any_moment_of_a_concurrent_step() {
    let by = |cause| Item { cause: Some(cause), ..item("event", None) };
    let own = item("reply", Some(0));
    let (early, late) = (vec![vec![by(1), own.clone()], vec![]], vec![vec![own.clone(), by(1)], vec![]]);
    assert_eq!(compare(&early, &late, true), None);
    assert!(compare(&early, &late, false).is_some(), "otherwise the order counts");
    assert!(compare(&early, &[vec![own.clone()], vec![]], true).is_some(), "none may be missing");
    let (early, late) = (vec![vec![by(0), own.clone()], vec![]], vec![vec![own, by(0)], vec![]]);
    assert!(compare(&early, &late, true).is_some(), "a session's own events have their place");
}

#[test]
fn a_reply_is_preferred_to_an_event() {
    let a = [vec![item("event 1", None)], vec![item("reply 1", Some(4))]];
    let z = [vec![item("event 2", None)], vec![item("reply 2", Some(4))]];
    let d = compare(&a, &z, false).unwrap();
    assert_eq!((d.session, d.request()), (1, Some(4)));
    let requests = (0..5).map(|n| Request::Bare(Op(n))).collect();
    let step = Step::Burst(vec![Burst { session: 1, requests }]);
    assert_eq!(request_of(&step, &d), Some(Request::Bare(Op(4))));
}
