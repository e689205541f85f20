use std::collections::BTreeSet;

use super::*;

fn all(steps: &[Step]) -> Vec<Request> {
    fn walk(r: &Request, out: &mut Vec<Request>) {
        out.push(r.clone());
        match r {
            Request::Multi { ops, .. } => ops.iter().for_each(|o| walk(o, out)),
            Request::Cut { of, .. } | Request::Patched { of, .. } => walk(of, out),
            _ => {}
        }
    }
    let mut out = Vec::new();
    steps.iter().flat_map(Step::requests).flatten().for_each(|r| walk(r, &mut out));
    out
}

#[test]
fn a_seed_makes_the_same_stream_again_and_another_another() {
    assert_eq!(stream(7, 300), stream(7, 300));
    assert_ne!(stream(7, 300), stream(8, 300));
    assert!(stream(7, 300).iter().map(Step::len).sum::<usize>() >= 200);
}

#[test]
fn everything_is_asked_sooner_or_later() {
    let steps: Vec<Step> = (0..20).flat_map(|seed| stream(seed, 500)).collect();
    let asked: BTreeSet<Op> = all(&steps).iter().map(Request::op).collect();
    // These are not for clients, mean something to SASL only, or stand inside of a record.
    let left_out = [Op::NOTIFICATION, Op::DELETE_CONTAINER, Op::SASL, Op::CREATE_SESSION, Op::ERROR];
    let missing: Vec<&Op> = Op::ALL.iter().filter(|op| !left_out.contains(op) && !asked.contains(op)).collect();
    assert!(missing.is_empty(), "never asked: {missing:?}");
    assert!(steps.iter().any(|s| matches!(s, Step::WrongPassword(_))) && steps.iter().any(Step::is_concurrent));
    assert!(steps.iter().any(|s| matches!(s, Step::Away { back, .. } if !back.is_empty())));
}

#[test]
fn what_goes_alone_is_alone() {
    for step in stream(3, 3_000) {
        let lists = step.requests();
        let lonely = lists.iter().any(|l| l.iter().any(Request::is_alone));
        assert!(!lonely || lists.len() == 1, "{step:?}");
        assert!(!lonely || matches!(step, Step::Burst(_)), "{step:?}");
    }
}

#[test]
fn nothing_follows_a_set_acl() {
    for step in stream(4, 3_000) {
        for list in step.requests() {
            if list.iter().any(Request::is_alone) {
                continue;
            }
            let at = list.iter().position(|r| matches!(r, Request::SetAcl { .. }));
            assert!(at.is_none_or(|at| at + 1 == list.len()), "{list:?}");
        }
    }
}

#[test]
fn sessions_that_write_at_once_stay_in_their_areas() {
    let mut steps = 0;
    for step in stream(5, 4_000).into_iter().filter(Step::is_concurrent) {
        let Step::Burst(bursts) = &step else { continue };
        steps += 1;
        for b in bursts {
            let own = format!("/d5/{}/", AREAS[b.session]);
            let list = all(&[Step::Burst(vec![b.clone()])]);
            assert!(list.iter().filter_map(Request::path).all(|p| p.starts_with(&own)), "{b:?}");
        }
    }
    assert!(steps > 20);
}

#[test]
fn what_would_stop_apache_is_not_asked() {
    for r in (0..40).flat_map(|seed| all(&stream(seed, 500))) {
        if let Request::Create { op: Op::CREATE_TTL, flags, ttl_ms, .. } = r {
            assert!(matches!(flags, 5 | 6) || ttl_ms >= 0, "flags {flags} ttl {ttl_ms}");
        }
        if let Request::Create { op: Op::CREATE_CONTAINER, flags, .. } = r {
            assert!(!matches!(flags, 2 | 3), "a sequential container");
        }
        if let Request::Patched { of, .. } = &r {
            assert!(!of.has(Op::CREATE_TTL) && (!of.is_write() || of.op() == Op::MULTI), "{of}");
        }
        assert!(![Op::DELETE_CONTAINER, Op::CREATE_SESSION].contains(&r.op()));
    }
}

#[test]
fn apache_leaders_can_be_spared() {
    let count = |steps: &[Step], wanted: fn(&Request) -> bool| {
        steps.iter().flat_map(Step::requests).flatten().filter(|r| wanted(r)).count()
    };
    let mut steps = stream(6, 3_000);
    let (before, left_out) = (count(&steps, |_| true), count(&steps, Request::is_undecodable_write));
    assert!(left_out > 0);
    steps.iter_mut().for_each(Step::spare_apache_leaders);
    assert_eq!((count(&steps, |_| true), count(&steps, Request::is_undecodable_write)), (before - left_out, 0));
}
